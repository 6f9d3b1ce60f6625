"""One request through the gateway: held, admitted, answered, settled.

`MeteredRequest` is common to all kinds of requests; `relay` and `embedding` build the upstream
request and process its answer. A request may consist of several subrequests, one after the other,
each with a slot of its own. However it ends (complete, by an error, or by `close()` when the client
has gone), it is settled exactly once, with the last counts that upstream reported.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import suppress
from functools import partial

from promptly.clients.llama import ConnectFailed, LlamaClient, LlamaError, LlamaStream
from promptly.errors import (
    AccountSuspended,
    InvalidKey,
    PromptlyError,
    RequestRejected,
    ServiceUnavailable,
)
from promptly.gateway import Gateway, measurements, slot_waiting
from promptly.gateway.body_budget import BodyShare
from promptly.gateway.fatal_bodies import MAX_RESENDS
from promptly.gateway.in_flight import ClientGone, InFlightRequest, Stopped
from promptly.gateway.prefix_chain import PrefixLink
from promptly.gateway.slots.requests import NONE, Lease, RequestOrigin, ServiceClass, SlotRequest
from promptly.gateway.time_limits import timeout_error
from promptly.gateway.upstream import Upstream
from promptly.gateway.upstream_errors import BrokeOff, NoAnswer, NotConnected, NotServed
from promptly.models.states import Outcome
from promptly.services import metering
from promptly.services.accounts.authentication import Caller

logger = logging.getLogger(__name__)


class MeteredRequest(ABC):
    """One metered request, from its placed hold to its settlement.

    `path` is the upstream path, `subrequests` the number of requests sent to it. `model` has to
    answer them, because the client said `model_name`; the receipt names it once a slot was granted.
    """

    def __init__(
        self,
        gateway: Gateway,
        caller: Caller,
        endpoint: str,
        in_flight: InFlightRequest,
        body_share: BodyShare,
        *,
        path: str,
        model: str,
        model_name: str,
        subrequests: int,
    ) -> None:
        self._gateway = gateway
        self._settings = gateway.settings
        self._caller = caller
        self._endpoint = endpoint
        self._body_share = body_share
        self._path = path
        self._model = model
        self._model_name = model_name
        self._subrequests = subrequests
        self._slot_request: SlotRequest | None = None
        self._resends = 0
        self._error_code: str | None = None
        self.in_flight = in_flight
        self.model = ""
        self.charge: metering.Charge | None = None
        gateway.hold_refresher.add(in_flight)

    # Implemented by each kind of request.

    @abstractmethod
    def _body(self, subrequest: int, lease: Lease) -> bytes:
        """Build the upstream body of a subrequest, which is sent at once."""

    @abstractmethod
    def _prompt_tokens(self, subrequest: int) -> int:
        """Estimate the prompt of a subrequest in tokens."""

    @abstractmethod
    def _digest(self, subrequest: int) -> str:
        """Return the digest of the upstream body, without what depends on the balance."""

    @abstractmethod
    def _answer(self, stream: LlamaStream) -> Generator[bytes, None, None]:
        """Process upstream's answer to a subrequest; yields the bytes for the client.

        Raises NoAnswer where another upstream may be tried instead, BrokeOff at any time.
        """

    @abstractmethod
    def _go_on(self, subrequest: int) -> Generator[bytes, None, bool]:
        """Prepare the next subrequest; False if the balance ends. Also called after the last."""

    @abstractmethod
    def _read_what_was_sent(self, stream: LlamaStream) -> None:
        """After a stop, read the last counts that upstream had already sent."""

    @abstractmethod
    def _counts(self, outcome: Outcome) -> metering.RunningCounts:
        """Return the counts to charge."""

    def _chain(self) -> tuple[PrefixLink, ...]:
        """Return links to the beginnings of the next prompt, by which its cache is found."""
        return ()

    def _too_small(self, subrequest: int) -> frozenset[str]:
        """Return the names of the upstreams in whose context the subrequest has no room."""
        return NONE

    def _first_token_at(self) -> float | None:
        """Return when the client got its first token (monotonic seconds), if there was one."""
        return None

    def _send(self, client: LlamaClient, body: bytes) -> LlamaStream:
        """Send a body upstream; raises as `LlamaClient.stream` does."""
        return client.stream(self._path, body)

    def _is_complete(self, stream: LlamaStream) -> bool:
        """Return whether upstream has said all of its answer, and so has left the slot."""
        return stream.complete

    # Common to all kinds of requests.

    def run(self) -> None:
        """Run the whole request for a client that does not stream; raises as `events` does."""
        for _ in self.events():
            pass

    def events(self) -> Generator[bytes, None, None]:
        """Yield the bytes for a streaming client, keep-alive comments included.

        Raises PromptlyError for errors that the client should see; by then the request is settled.
        """
        outcome = Outcome.CLIENT_DISCONNECTED
        try:
            covered = yield from self._relay()
            outcome = Outcome.COMPLETED if covered else self._used_up()
        except GeneratorExit:
            raise
        except ClientGone:
            pass
        except Stopped as stopped:
            outcome = stopped.reason
            if outcome == Outcome.TIMEOUT:
                raise timeout_error(self.in_flight, time.monotonic(), self._settings) from None
            if outcome == Outcome.ACCOUNT_DELETED:
                raise InvalidKey("The account of this key has been deleted.") from None
            if outcome == Outcome.ACCOUNT_SUSPENDED:
                raise AccountSuspended.with_contact(self._settings.support_email) from None
            raise ServiceUnavailable("The service is restarting. Please try again.") from None
        except PromptlyError as problem:
            self._error_code = problem.code
            outcome = Outcome.UPSTREAM_ERROR if problem.status >= 500 else Outcome.REJECTED
            raise
        except Exception:
            outcome = Outcome.INTERNAL_ERROR
            raise
        finally:
            self._end(outcome)

    def _used_up(self) -> Outcome:
        if self.in_flight.hold.stopped_by_key:
            return Outcome.KEY_LIMIT_REACHED
        return Outcome.BALANCE_EXHAUSTED

    def _relay(self) -> Generator[bytes, None, bool]:
        """Run one subrequest after the other; False when the balance ended before they did."""
        subrequest = 0
        tried: set[str] = set()
        fatal_bodies = self._gateway.fatal_bodies
        while True:
            lease = yield from self._wait_for_slot(subrequest, frozenset(tried) if tried else NONE)
            if fatal_bodies.any_known:
                fatal_bodies.admit(self._digest(subrequest), self)
            self._sent_at = time.time()
            try:
                yield from self._answer(self._open(lease, subrequest))
            except NoAnswer as problem:
                self._leave_upstream()
                self._give_up(lease.upstream, subrequest, problem, tried)
                continue
            self._leave_upstream()
            if fatal_bodies.any_known:
                fatal_bodies.forgive(self._digest(subrequest))
            tried.clear()
            self._resends = 0
            subrequest += 1
            if not (yield from self._go_on(subrequest)):
                return False
            if subrequest == self._subrequests:
                return True

    def _give_up(
        self, upstream: Upstream, subrequest: int, problem: NoAnswer, tried: set[str]
    ) -> None:
        """Report an upstream without an answer to the pool; raises if no other may be tried."""
        pool = self._gateway.pool
        make_error = problem.make_error
        if isinstance(problem, NotServed):
            pool.lacks(upstream, self._path)
            self._choose_again()
            make_error = partial(pool.refusal, self._path, self._model)
        elif isinstance(problem, NotConnected):
            pool.failed(upstream)
        elif not pool.doubt(upstream) and isinstance(problem, BrokeOff):
            self._note_death(upstream, subrequest, problem)
        if not (isinstance(problem, BrokeOff) and problem.is_stale):
            tried.add(upstream.name)
        if isinstance(problem, BrokeOff):
            if problem.begun or self._resends == MAX_RESENDS:
                raise make_error() from None
            self._resends += 1
        avoided = tried | self._too_small(subrequest)
        if all(other.name in avoided for other in pool.ready(self._path, self._model)):
            raise make_error() from None

    def _choose_again(self) -> None:
        """Take the default model of the servers that are left, if the client named no model."""
        with suppress(PromptlyError):
            names = self._gateway.model_names
            self._model = names.resolve_for(self._caller, self._model_name, self._path)

    def _note_death(self, upstream: Upstream, subrequest: int, problem: BrokeOff) -> None:
        """Count a death against the body; raises RequestRejected if it was one too many."""
        refused = self._gateway.fatal_bodies.add_death(
            self._digest(subrequest), upstream.name, self._sent_at
        )
        logger.warning(
            "model server died",
            extra={
                "upstream": upstream.name,
                "request_id": self.in_flight.request_id.hex,
                "user_id": self._caller.user_id,
                "key_id": self._caller.key_id,
                "refused": refused,
            },
        )
        if refused and not problem.begun:
            raise RequestRejected from None

    def _wait_for_slot(
        self, subrequest: int, avoided: frozenset[str]
    ) -> Generator[bytes, None, Lease]:
        """Wait for a slot of any upstream of the model that is not `avoided`."""
        yield from slot_waiting.for_model(self._gateway, self.in_flight, self._path, self._model)
        avoided |= self._too_small(subrequest)
        slot_request = self._gateway.slots.request(
            self._caller.user_id,
            self._path,
            model=self._model,
            service_class=ServiceClass.of(pays=self._caller.pays, batch=self._caller.batch),
            avoided=avoided,
            prompt_tokens=self._prompt_tokens(subrequest),
            chain=self._chain(),
            origin=RequestOrigin(self._caller.key_id, self.in_flight.request_id, self._endpoint),
        )
        self._slot_request = slot_request
        self.in_flight.raise_if_stopped()
        lease = yield from slot_waiting.for_slot(
            self._gateway, self.in_flight, slot_request, avoided
        )
        self.model = lease.upstream.model
        return lease

    def _open(self, lease: Lease, subrequest: int) -> LlamaStream:
        body = self._body(subrequest, lease)
        if self._slot_request is not None:
            self._slot_request.counts = self.in_flight.hold.counts
            self._slot_request.reached = True
        try:
            stream = self._send(lease.upstream.client, body)
        except ConnectFailed as problem:
            if self._slot_request is not None:
                self._slot_request.reached = False
            raise NotConnected from problem
        except LlamaError as problem:
            raise BrokeOff(begun=False) from problem
        self.in_flight.stream = stream
        self.in_flight.touched_at = time.monotonic()
        if self.in_flight.stop_reason is not None:
            stream.cancel()
        return stream

    def _leave_upstream(self) -> None:
        stream, slot_request = self.in_flight.stream, self._slot_request
        if stream is not None:
            stream.close()
            self.in_flight.stream = None
        if slot_request is not None:
            is_complete = stream is not None and self._is_complete(stream)
            self._gateway.slots.release(
                slot_request, settled=is_complete or not slot_request.reached
            )
            self._slot_request = None

    def _end(self, outcome: Outcome) -> None:
        """Stop upstream, release the slot, settle; runs once, however the request ended."""
        stream = self.in_flight.stream
        if stream is not None and outcome != Outcome.REJECTED:
            stream.cancel()
            self._read_what_was_sent(stream)
        self._leave_upstream()
        self._gateway.fatal_bodies.leave(self)
        self._body_share.give_back()
        in_flight = self.in_flight
        now = time.monotonic()
        counts = self._counts(outcome)
        first_token_at = self._first_token_at()
        settlement = metering.Settlement(
            request_id=in_flight.request_id,
            user_id=self._caller.user_id,
            key_id=self._caller.key_id,
            endpoint=self._endpoint,
            model=self.model,
            outcome=outcome,
            prompt_tokens=counts.prompt_tokens,
            cached_prompt_tokens=counts.cached_prompt_tokens,
            completion_tokens=counts.completion_tokens,
            time_to_first_token_ms=None
            if first_token_at is None
            else round((first_token_at - in_flight.started_at) * 1000),
            duration_ms=round((now - in_flight.started_at) * 1000),
            price_id=in_flight.hold.placed.price.id,
        )
        measurements.record(
            settlement,
            in_flight,
            error_code=self._error_code,
            answers=self._subrequests,
        )
        in_flight.hold.settled = True
        self.charge = self._gateway.settler.settle(settlement, self._settled)
        logger.info(
            "request",
            extra={
                "request_id": in_flight.request_id.hex,
                "user_id": self._caller.user_id,
                "key_id": self._caller.key_id,
                "endpoint": self._endpoint,
                "outcome": outcome,
                "prompt_tokens": counts.prompt_tokens,
                "cached_prompt_tokens": counts.cached_prompt_tokens,
                "completion_tokens": counts.completion_tokens,
                "charged_tokens": self.charge.charged_tokens if self.charge else None,
                "time_to_first_token_ms": settlement.time_to_first_token_ms,
                "duration_ms": settlement.duration_ms,
            },
        )

    def _settled(self) -> None:
        self._gateway.hold_refresher.remove(self.in_flight)
