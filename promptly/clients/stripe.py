"""Stripe's API through its SDK: the few calls that promptly makes, with time limits.

Responses are plain dicts as in Stripe's API reference. Every call raises ProviderUnavailable,
ProviderRefused or ProviderNotFound.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

import stripe
from stripe.params import RefundCreateParams
from stripe.params.checkout import SessionCreateParams, SessionListParams

from promptly.clients.provider_errors import ProviderNotFound, ProviderRefused, ProviderUnavailable
from promptly.secret import Secret
from promptly.settings import Settings

T = TypeVar("T")
Json = dict[str, Any]

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 10.0
RETRIES = 2
PAGE = 100
SIGNATURE_TOLERANCE_SECONDS = 300
REASON_LENGTH = 200

# Do not send latency telemetry to Stripe.
stripe.enable_telemetry = False


class _DeadlinePassed(Exception):
    """The time limit of all calls together has passed."""


class _DeadlineClient(stripe.RequestsClient):
    """HTTP client with one time limit for all its calls together, retries included."""

    def __init__(self, seconds: float) -> None:
        super().__init__(timeout=READ_TIMEOUT_SECONDS)
        self._deadline = time.monotonic() + seconds

    def request(  # type: ignore[override]  # RequestsClient differs from HTTPClient, too
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _DeadlinePassed
        self._timeout = (min(CONNECT_TIMEOUT_SECONDS, left), min(READ_TIMEOUT_SECONDS, left))
        return super().request(method, url, headers, post_data)


class StripeAPI:
    """A connection for one task, whose calls share `timeout_seconds`; close it after use."""

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self._http = _DeadlineClient(timeout_seconds)
        base = settings.stripe_api_base
        self._v1 = stripe.StripeClient(
            settings.stripe_secret_key.reveal(),
            base_addresses={"api": base} if base else None,
            max_network_retries=RETRIES,
            http_client=self._http,
        ).v1

    def close(self) -> None:
        self._http.close()  # type: ignore[no-untyped-call]

    def check(self) -> None:
        """Check the key with a request that always succeeds."""
        self._listed(lambda: self._v1.checkout.sessions.list({"limit": 1}), 1)

    def missing_permissions(self) -> list[str]:
        """Return what a restricted key may not do, by the names of Stripe's dashboard.

        Stripe describes no key, so try each call: lists of one, and for the permissions to write
        calls without a required parameter, which it refuses either way.
        """
        v1 = self._v1
        # The SDK's types do not allow a call without parameters.
        no_session, no_refund = cast(SessionCreateParams, {}), cast(RefundCreateParams, {})
        attempts: dict[str, Callable[[], Any]] = {
            "Checkout Sessions: Write": lambda: v1.checkout.sessions.create(no_session),
            "Refunds: Write": lambda: v1.refunds.create(no_refund),
            "Charges: Read": lambda: v1.charges.list({"limit": 1}),
            "Disputes: Read": lambda: v1.disputes.list({"limit": 1}),
            "PaymentIntents: Read": lambda: v1.payment_intents.list({"limit": 1}),
            "Events: Read": lambda: v1.events.list({"limit": 1}),
        }
        return [name for name, call in attempts.items() if _called(partial(_is_forbidden, call))]

    def create_session(self, params: SessionCreateParams, idempotency_key: str) -> Json:
        """Create a checkout session, or return the one created with this key before."""
        return _called(
            lambda: self._v1.checkout.sessions.create(
                params, {"idempotency_key": idempotency_key}
            ).to_dict()
        )

    def session(self, session_id: str) -> Json:
        return _called(lambda: self._v1.checkout.sessions.retrieve(session_id).to_dict())

    def session_of_payment(self, payment_intent: str) -> Json | None:
        """Return the checkout session of a payment; None if it was made without one."""
        found = self._listed(
            lambda: self._v1.checkout.sessions.list({"payment_intent": payment_intent}), 1
        )
        return found[0] if found else None

    def sessions(self, since: int, until: int, most: int, *, complete: bool) -> list[Json]:
        """Return up to `most` sessions created from `since` to `until` (Unix seconds).

        Newest first; only completed ones if `complete`.
        """
        params: SessionListParams = {"created": {"gte": since, "lte": until}, "limit": PAGE}
        if complete:
            params["status"] = "complete"
        return self._listed(lambda: self._v1.checkout.sessions.list(params), most)

    def payment_intent(self, intent_id: str) -> Json:
        return _called(lambda: self._v1.payment_intents.retrieve(intent_id).to_dict())

    def events(self, types: list[str], since: int, until: int, most: int) -> list[Json]:
        """Return up to `most` events of these types from `since` to `until` (Unix seconds).

        Newest first. Stripe accepts 20 types at most and keeps events for 30 days.
        """
        return self._listed(
            lambda: self._v1.events.list(
                {"types": types, "created": {"gte": since, "lte": until}, "limit": PAGE}
            ),
            most,
        )

    def charge(self, charge_id: str) -> Json:
        return _called(lambda: self._v1.charges.retrieve(charge_id).to_dict())

    def refund(self, refund_id: str) -> Json:
        return _called(lambda: self._v1.refunds.retrieve(refund_id).to_dict())

    def dispute(self, dispute_id: str) -> Json:
        return _called(lambda: self._v1.disputes.retrieve(dispute_id).to_dict())

    def early_fraud_warning(self, warning_id: str) -> Json:
        return _called(lambda: self._v1.radar.early_fraud_warnings.retrieve(warning_id).to_dict())

    def refunds_of(self, payment_intent: str) -> list[Json]:
        """Return all refunds of a payment."""
        return self._listed(
            lambda: self._v1.refunds.list({"payment_intent": payment_intent, "limit": PAGE})
        )

    def disputes_of(self, payment_intent: str) -> list[Json]:
        """Return all disputes of a payment."""
        return self._listed(
            lambda: self._v1.disputes.list({"payment_intent": payment_intent, "limit": PAGE})
        )

    def create_refund(self, params: RefundCreateParams, idempotency_key: str) -> Json:
        """Refund a payment, once per idempotency key."""
        return _called(
            lambda: self._v1.refunds.create(params, {"idempotency_key": idempotency_key}).to_dict()
        )

    def _listed(self, fetch: Callable[[], Any], most: int | None = None) -> list[Json]:
        def collect() -> list[Json]:
            items: Iterator[Any] = iter(fetch().auto_paging_iter())
            return [item.to_dict() for item in islice(items, most)]

        return _called(collect)


def signature_is_good(body: bytes, header: str | None, secrets: tuple[Secret, ...]) -> bool:
    """Return whether one of the secrets signed this body within the last five minutes."""
    if header is None or not header.isascii():
        # The SDK compares only ASCII.
        return False
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(
                body, header, secret.reveal(), SIGNATURE_TOLERANCE_SECONDS
            )
        except (stripe.SignatureVerificationError, ValueError):
            # ValueError: the body is not text, or the timestamp is not a number.
            continue
        return True
    return False


def _is_forbidden(call: Callable[[], Any]) -> bool:
    try:
        call()
    except stripe.PermissionError:
        return True
    except stripe.InvalidRequestError:
        # Stripe checks the permission before the parameters.
        return False
    return False


def _called(call: Callable[[], T]) -> T:
    try:
        return call()
    except _DeadlinePassed as problem:
        raise ProviderUnavailable("Stripe does not answer (no time left)") from problem
    except stripe.APIConnectionError as problem:
        raise ProviderUnavailable(f"Stripe does not answer ({_cause(problem)})") from problem
    except (stripe.AuthenticationError, stripe.PermissionError) as problem:
        # A misconfiguration, not a fault of the order: retry until the operator corrects it.
        raise ProviderUnavailable(f"Stripe refuses our key ({problem.http_status})") from problem
    except stripe.RateLimitError as problem:
        raise ProviderUnavailable("Stripe asks us to slow down") from problem
    except stripe.StripeError as problem:
        raise _translated(problem) from problem
    except (ValueError, AttributeError, TypeError, KeyError) as problem:
        # The SDK raises these for a malformed answer.
        reason = f"Stripe's answer cannot be read ({type(problem).__name__})"
        raise ProviderUnavailable(reason, answered=True) from problem


def _cause(problem: BaseException) -> str:
    return type(problem.__cause__ or problem).__name__


def _translated(problem: stripe.StripeError) -> ProviderUnavailable | ProviderRefused:
    status = problem.http_status
    reason = (problem.user_message or "no reason given")[:REASON_LENGTH]
    if status == 404 or problem.code == "resource_missing":
        return ProviderNotFound(reason, code=problem.code)
    if isinstance(problem, stripe.IdempotencyError) or status is None or status >= 500:
        return ProviderUnavailable(f"Stripe has an error ({status})", answered=True)
    if status in {408, 409, 429}:
        return ProviderUnavailable(f"Stripe is busy ({status})")
    return ProviderRefused(reason, code=problem.code)
