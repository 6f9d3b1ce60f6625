"""The pool of llama-servers: the model, the endpoints and the readiness of each.

Each process probes for itself, every few seconds and when no server is ready for a request. It
learns which endpoints a server lacks from refused requests. A model that is only good for
embeddings must be configured as such, because its server would generate text on request.
"""

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from promptly.clients.llama import LlamaClient, LlamaError
from promptly.errors import PromptlyError, UnsupportedEndpoint, UpstreamUnavailable
from promptly.settings import Settings

logger = logging.getLogger(__name__)

EMBEDDINGS_PATH = "/v1/embeddings"
SLOTS_PATH = "/slots"

PROBE_SECONDS = 5.0
# Try an endpoint that a server lacked again after this long.
LACKING_SECONDS = 60.0


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
    probed_at: float = field(default=float("-inf"))
    # A request has failed and no probe has run since.
    doubted: bool = False
    # Paths that it does not serve, each with the (monotonic) time until which we believe it.
    lacking: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The upstream's name in Redis and in logs."""
        return self.client.base_url

    def serves(self, path: str) -> bool:
        """Return whether a request to this path is worth trying."""
        if self.only_embeddings and path not in ("", EMBEDDINGS_PATH):
            return False
        return path not in self.lacking or self.lacking[path] < time.monotonic()


class UpstreamPool:
    """All configured llama-servers."""

    def __init__(self, settings: Settings) -> None:
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
        self._probing = threading.Lock()
        self._looking = threading.Lock()

    def ready(self, path: str = "") -> list[Upstream]:
        """Return the upstreams that can take a request to `path`; without a path, all ready ones.

        Stale ones are probed in the background. The caller waits for the first probe of a server,
        and for further ones only if none is ready.
        """
        fresh_since = time.monotonic() - PROBE_SECONDS
        stale = [up for up in self.upstreams if up.probed_at < fresh_since]
        found = [] if stale else [up for up in self.upstreams if up.ready and up.serves(path)]
        if found:
            return found
        able = [up for up in self.upstreams if up.serves(path)]
        self._probe_unknown(able)
        # Those that were probed just now need no second probe.
        stale = [up for up in stale if up.probed_at < fresh_since]
        if stale and any(up.ready for up in self.upstreams):
            self._probe_in_background(stale)
        return [up for up in able if up.ready] or self._look_again(able)

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
        if all(up.probed_at == float("-inf") for up in self.upstreams):
            return self.ready()
        now = time.monotonic()
        stale = [up for up in self.upstreams if now - up.probed_at > PROBE_SECONDS]
        if stale:
            self._probe_in_background(stale)
        return [up for up in self.upstreams if up.ready]

    def refusal(self, path: str) -> PromptlyError:
        """Return the error for a request to `path` that no upstream takes."""
        if any(up.serves(path) for up in self.upstreams):
            return UpstreamUnavailable()
        return UnsupportedEndpoint()

    def _probe_unknown(self, able: list[Upstream]) -> None:
        """Probe servers for the first time: one of them may be the only one for a path."""
        if any(up.probed_at == float("-inf") for up in able):
            with self._looking:
                for upstream in able:
                    if upstream.probed_at == float("-inf"):
                        self.probe(upstream)

    def _look_again(self, able: list[Upstream]) -> list[Upstream]:
        """Probe upstreams once more, as none is ready, before the request is refused.

        At once where only a request has failed, perhaps by its own fault; at most once a second
        where a probe has failed.
        """
        with self._looking:
            for upstream in able:
                rested = upstream.doubted or time.monotonic() - upstream.probed_at > 1.0
                if rested and not upstream.ready:
                    self.probe(upstream)
        return [up for up in able if up.ready]

    def failed(self, upstream: Upstream) -> None:
        """Exclude an upstream that could not be reached, until a probe finds it ready."""
        if upstream.ready:
            logger.warning("upstream failed", extra={"upstream": upstream.name})
            upstream.doubted = True
        upstream.ready = False
        upstream.probed_at = time.monotonic()

    def doubt(self, upstream: Upstream) -> bool:
        """Probe an upstream that failed a request; return whether it is ready nevertheless.

        One request's misfortune does not exclude it, only a failed probe does. Requests that fail
        together share one probe.
        """
        doubted_at = time.monotonic()
        with self._looking:
            if upstream.probed_at < doubted_at:
                was_ready = upstream.ready
                if not self.probe(upstream) and was_ready:
                    logger.warning("upstream failed", extra={"upstream": upstream.name})
        return upstream.ready

    def lacks(self, upstream: Upstream, path: str) -> None:
        """Remember for LACKING_SECONDS that an upstream does not serve a path."""
        logger.info("upstream lacks endpoint", extra={"upstream": upstream.name, "endpoint": path})
        upstream.lacking[path] = time.monotonic() + LACKING_SECONDS
        if path == SLOTS_PATH:
            upstream.shows_slots = False

    def _probe_in_background(self, upstreams: list[Upstream]) -> None:
        if not self._probing.acquire(blocking=False):
            return
        now = time.monotonic()
        for upstream in upstreams:
            # Requests wait for a first probe themselves, until it is done.
            if upstream.probed_at != float("-inf"):
                upstream.probed_at = now

        def run() -> None:
            try:
                for upstream in upstreams:
                    self.probe(upstream)
            finally:
                self._probing.release()

        threading.Thread(target=run, name="probe-upstreams", daemon=True).start()

    def probe(self, upstream: Upstream) -> bool:
        """Query an upstream's properties; return whether it is ready."""
        was_ready = upstream.ready
        was = (upstream.model, upstream.n_ctx, upstream.slots)
        upstream.doubted = False
        try:
            status, props = upstream.client.call("GET", "/props", timeout_seconds=3)
            upstream.ready = status == 200 and self._read(upstream, props)
        except LlamaError:
            upstream.ready = False
        if not was_ready or (upstream.model, upstream.n_ctx, upstream.slots) != was:
            # This may be a different server than the one that refused.
            upstream.lacking.clear()
        upstream.probed_at = time.monotonic()
        if upstream.ready != was_ready:
            logger.info(
                "upstream ready" if upstream.ready else "upstream not ready",
                extra={"upstream": upstream.name, "slots": upstream.slots},
            )
        return upstream.ready

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
