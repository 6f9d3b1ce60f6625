"""The pool of llama-servers: the model, the endpoints and the readiness of each.

Each process probes for itself, every few seconds and when no server is ready for a request; one
that does not answer is probed ever less often. It learns which endpoints a server lacks from
refused requests. A drained server is probed, but gets no request. A model that is only good for
embeddings must be configured as such, because its server would generate text on request.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from promptly.clients.llama import LlamaClient, LlamaError
from promptly.errors import PromptlyError, UnsupportedEndpoint, UpstreamUnavailable
from promptly.gateway import probe_pauses
from promptly.gateway.drained_servers import DrainedServers
from promptly.gateway.shared_calls import SharedCall, run_all
from promptly.settings import Settings

logger = logging.getLogger(__name__)

EMBEDDINGS_PATH = "/v1/embeddings"
SLOTS_PATH = "/slots"

PROBE_SECONDS = 5.0
PROBE_TIMEOUT_SECONDS = 3.0
# Try an endpoint that a server lacked again after this long.
LACKING_SECONDS = 60.0

ALL_DRAINED = "The model servers are being taken out of service for maintenance. Try again later."


@dataclass(slots=True)
class Upstream:
    """One llama-server as last probed; `slots` is how many requests it runs at a time."""

    client: LlamaClient
    only_embeddings: bool = False
    ready: bool = False
    slots: int = 0
    n_ctx: int = 0
    model: str = ""
    # Whether it says which slots are idle.
    shows_slots: bool = False
    # An operator has taken it out of service: it gets no new request.
    drained: bool = False
    probed_at: float = field(default=float("-inf"))
    # Until the next probe, and how many have failed since the last one that did not.
    pause: float = 0.0
    failures: int = 0
    # Why the last probe failed, in a few words.
    problem: str = ""
    probing: SharedCall = field(default_factory=SharedCall)
    # A request has failed and no probe has run since.
    doubted: bool = False
    # Paths that it does not serve, each with the (monotonic) time until which we believe it.
    lacking: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The upstream's name in Redis and in logs."""
        return self.client.base_url

    @property
    def url(self) -> str:
        """The server's URL, as configured."""
        return self.client.base_url

    @property
    def takes_requests(self) -> bool:
        """Whether it may get a new request."""
        return self.ready and not self.drained

    @property
    def is_known(self) -> bool:
        """Whether it has been probed."""
        return self.probed_at != float("-inf")

    def serves(self, path: str) -> bool:
        """Return whether a request to this path is worth trying."""
        if self.only_embeddings and path not in ("", EMBEDDINGS_PATH):
            return False
        return path not in self.lacking or self.lacking[path] < time.monotonic()


class UpstreamPool:
    """All configured llama-servers."""

    def __init__(self, settings: Settings, drained_servers: DrainedServers | None = None) -> None:
        self._drained_servers = drained_servers or DrainedServers()
        self._drained: frozenset[str] = frozenset()
        self.upstreams = [
            Upstream(
                LlamaClient(url, settings.llama_api_key, settings.upstream_connect_timeout_seconds),
                only_embeddings,
            )
            for only_embeddings, urls in (
                (False, settings.llama_base_url),
                (True, settings.llama_embeddings_base_url),
            )
            for url in urls
        ]

    def ready(self, path: str = "") -> list[Upstream]:
        """Return the upstreams that can take a request to `path`; without a path, all ready ones.

        Stale ones are probed in the background. The caller waits for the first probe of a server,
        and for further ones only if none is ready.
        """
        self._mark_drained()
        stale = self._stale()
        found = (
            [] if stale else [up for up in self.upstreams if up.takes_requests and up.serves(path)]
        )
        if found:
            return found
        able = [up for up in self.upstreams if up.serves(path)]
        self._probe_all(_never_probed, able)
        found = [up for up in able if up.takes_requests] or self._look_again(able)
        if any(up.ready for up in self.upstreams):
            # Those that were probed just now need no second probe.
            self._probe_in_background(self._stale())
        return found

    def named(self, name: str) -> Upstream | None:
        """Return the upstream of this name, None if it is not one of ours."""
        return next((up for up in self.upstreams if up.name == name), None)

    def require(self, path: str) -> list[Upstream]:
        """As `ready`, but raise UpstreamUnavailable or UnsupportedEndpoint if there is none."""
        found = self.ready(path)
        if not found:
            raise self.refusal(path)
        return found

    def seen(self) -> list[Upstream]:
        """Return the upstreams that were ready when last probed, for pages that must not wait.

        The caller waits only for the very first probe.
        """
        if not any(up.is_known for up in self.upstreams):
            return self.ready()
        self._probe_in_background(self._stale())
        return [up for up in self.upstreams if up.ready]

    def refusal(self, path: str) -> PromptlyError:
        """Return the error for a request to `path` that no upstream takes."""
        if not any(up.serves(path) for up in self.upstreams):
            return UnsupportedEndpoint()
        return UpstreamUnavailable(ALL_DRAINED if self.all_drained(path) else None)

    def all_drained(self, path: str) -> bool:
        """Return whether every upstream that could take a request to `path` is drained."""
        able = [up for up in self.upstreams if up.serves(path)]
        return bool(able) and all(up.drained for up in able)

    def _stale(self) -> list[Upstream]:
        now = time.monotonic()
        return [up for up in self.upstreams if now - up.probed_at > up.pause]

    def _mark_drained(self) -> None:
        """Take in which servers are drained; one that is resumed is probed at once."""
        names = self._drained_servers.names()
        if names is not self._drained:
            self._drained = names
            for upstream in self.upstreams:
                drained = upstream.url in names
                if upstream.drained and not drained:
                    upstream.pause = 0.0
                upstream.drained = drained

    def _look_again(self, able: list[Upstream]) -> list[Upstream]:
        """Probe upstreams once more, as none is ready, before the request is refused.

        At once where only a request has failed, perhaps by its own fault; at most once a second
        where a probe has failed.
        """
        usable = [up for up in able if not up.drained]
        self._probe_all(_rested, usable)
        return [up for up in usable if up.takes_requests]

    def failed(self, upstream: Upstream) -> None:
        """Exclude an upstream that could not be reached, until a probe finds it ready."""
        if upstream.ready:
            logger.warning("upstream failed", extra={"upstream": upstream.name})
            upstream.doubted = True
        upstream.ready = False
        upstream.probed_at = time.monotonic()
        upstream.pause = PROBE_SECONDS

    def doubt(self, upstream: Upstream) -> bool:
        """Probe an upstream that failed a request; return whether it is ready nevertheless.

        One request's misfortune does not exclude it, only a failed probe does. Requests that fail
        together share one probe.
        """

        def probe() -> None:
            was_ready = upstream.ready
            self._ask(upstream)
            if was_ready and not upstream.ready:
                logger.warning("upstream failed", extra={"upstream": upstream.name})

        upstream.probing.run(probe)
        return upstream.ready

    def lacks(self, upstream: Upstream, path: str) -> None:
        """Remember for LACKING_SECONDS that an upstream does not serve a path."""
        logger.info("upstream lacks endpoint", extra={"upstream": upstream.name, "endpoint": path})
        upstream.lacking[path] = time.monotonic() + LACKING_SECONDS
        if path == SLOTS_PATH:
            upstream.shows_slots = False

    def _probe_in_background(self, upstreams: Iterable[Upstream]) -> None:
        now = time.monotonic()
        for upstream in upstreams:
            # Requests wait for a first probe themselves, until it is done.
            if upstream.is_known:
                upstream.probed_at, upstream.pause = now, PROBE_SECONDS
            upstream.probing.start(partial(self._ask, upstream), "probe-upstream")

    def probe(self, upstream: Upstream) -> bool:
        """Query an upstream's properties; return whether it is ready.

        Callers that come together share a probe.
        """
        upstream.probing.run(partial(self._ask, upstream))
        return upstream.ready

    def _probe_all(self, needed: Callable[[Upstream], bool], upstreams: Iterable[Upstream]) -> None:
        """Probe servers at the same time, so that a slow one does not delay the others."""
        run_all(
            [
                partial(up.probing.run, partial(self._ask, up), partial(needed, up))
                for up in upstreams
                if needed(up)
            ],
            "probe-upstream",
        )

    def _ask(self, upstream: Upstream) -> None:
        was_ready = upstream.ready
        was = (upstream.model, upstream.n_ctx, upstream.slots)
        upstream.doubted = False
        loading = False
        try:
            status, props = upstream.client.call(
                "GET", "/props", timeout_seconds=PROBE_TIMEOUT_SECONDS
            )
            upstream.ready = status == 200 and self._read(upstream, props)
            loading = status == 503
            upstream.problem = "" if upstream.ready else _problem(status)
        except LlamaError as problem:
            upstream.ready, upstream.problem = False, f"no answer ({problem})"
        _set_pause(upstream, loading=loading)
        if not was_ready or (upstream.model, upstream.n_ctx, upstream.slots) != was:
            # This may be a different server than the one that refused.
            upstream.lacking.clear()
        upstream.probed_at = time.monotonic()
        if upstream.ready != was_ready:
            logger.info(
                "upstream ready" if upstream.ready else "upstream not ready",
                extra={"upstream": upstream.name, "slots": upstream.slots},
            )

    @staticmethod
    def _read(upstream: Upstream, props: Any) -> bool:
        try:
            upstream.n_ctx = int(props["default_generation_settings"]["n_ctx"])
            upstream.slots = int(props["total_slots"])
            upstream.model = str(props.get("model_alias") or "model").split(",")[0]
            upstream.shows_slots = bool(props.get("endpoint_slots")) and upstream.serves(SLOTS_PATH)
        except (KeyError, TypeError, ValueError, OverflowError):
            return False
        return upstream.slots > 0 and upstream.n_ctx > 0


def _problem(status: int) -> str:
    if status == 503:
        return "loading its model"
    return "rejects the key" if status in (401, 403) else f"/props returned {status}"


def _set_pause(upstream: Upstream, *, loading: bool) -> None:
    failed = not (upstream.ready or loading)
    upstream.failures = upstream.failures + 1 if failed else 0
    pause = probe_pauses.while_loading() if loading else None
    upstream.pause = pause or probe_pauses.after_failures(upstream.failures, PROBE_SECONDS)


def _never_probed(upstream: Upstream) -> bool:
    return not upstream.is_known


def _rested(upstream: Upstream) -> bool:
    """Return whether a server that is not ready may be asked again before a request is refused."""
    rested = upstream.doubted or time.monotonic() - upstream.probed_at > 1.0
    return rested and not upstream.ready
