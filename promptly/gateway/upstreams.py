"""The pool of llama-servers: what each one is, what it serves, and whether it is ready.

Every process looks for itself, every few seconds and whenever a request found one wanting. Which
endpoints a server lacks is learned when a request is refused for it. That a server's model is only
good for embeddings must be configured: asked for text, it would generate some.
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

PROBE_SECONDS = 5.0
# After so long an endpoint that a server lacked is tried again.
LACKING_SECONDS = 60.0


@dataclass(slots=True)
class Upstream:
    """One llama-server as last seen; `slots` is how many requests it runs at a time."""

    client: LlamaClient
    only_embeddings: bool = False
    ready: bool = False
    slots: int = 0
    n_ctx: int = 0
    model: str = ""
    probed_at: float = field(default=float("-inf"))
    # A request found it wanting and nobody has looked since.
    doubted: bool = False
    # Paths that it does not serve, and until when that is believed.
    lacking: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in Redis and in logs."""
        return self.client.base_url

    def serves(self, path: str) -> bool:
        """Whether a request to this path is worth trying."""
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
        """The upstreams that can take a request to a path; without one, all that answer.

        They are probed if they were not just now.
        """
        now = time.monotonic()
        stale = [up for up in self.upstreams if now - up.probed_at > PROBE_SECONDS]
        if stale and any(up.ready for up in self.upstreams):
            self._probe_in_background(stale)
        able = [up for up in self.upstreams if up.serves(path)]
        return [up for up in able if up.ready] or self._look_again(able)

    def seen(self) -> list[Upstream]:
        """The upstreams that were ready when last looked at, for pages: nobody waits for a probe.

        Only the first of all looks is waited for.
        """
        if all(up.probed_at == float("-inf") for up in self.upstreams):
            return self.ready()
        now = time.monotonic()
        stale = [up for up in self.upstreams if now - up.probed_at > PROBE_SECONDS]
        if stale:
            self._probe_in_background(stale)
        return [up for up in self.upstreams if up.ready]

    def refusal(self, path: str) -> PromptlyError:
        """Why no upstream takes a request to this path."""
        if any(up.serves(path) for up in self.upstreams):
            return UpstreamUnavailable()
        return UnsupportedEndpoint()

    def _look_again(self, able: list[Upstream]) -> list[Upstream]:
        """None of these is ready, so nothing is lost by looking once more before saying no.

        At once where only a request failed, which may have been that request's own misfortune;
        once a second where looking has failed.
        """
        with self._looking:
            for upstream in able:
                rested = upstream.doubted or time.monotonic() - upstream.probed_at > 1.0
                if rested and not upstream.ready:
                    self.probe(upstream)
        return [up for up in able if up.ready]

    def failed(self, upstream: Upstream) -> None:
        """A request found this upstream away: leave it out until a probe says otherwise."""
        if upstream.ready:
            logger.warning("upstream failed", extra={"upstream": upstream.name})
            upstream.doubted = True
        upstream.ready = False
        upstream.probed_at = time.monotonic()

    def lacks(self, upstream: Upstream, path: str) -> None:
        """A request found that this upstream does not serve the path."""
        logger.info("upstream lacks endpoint", extra={"upstream": upstream.name, "endpoint": path})
        upstream.lacking[path] = time.monotonic() + LACKING_SECONDS

    def _probe_in_background(self, upstreams: list[Upstream]) -> None:
        if not self._probing.acquire(blocking=False):
            return
        now = time.monotonic()
        for upstream in upstreams:
            upstream.probed_at = now

        def run() -> None:
            try:
                for upstream in upstreams:
                    self.probe(upstream)
            finally:
                self._probing.release()

        threading.Thread(target=run, name="probe-upstreams", daemon=True).start()

    def probe(self, upstream: Upstream) -> bool:
        """Ask an upstream what it is; True when it is ready."""
        was_ready = upstream.ready
        was = (upstream.model, upstream.n_ctx, upstream.slots)
        upstream.doubted = False
        try:
            status, props = upstream.client.call("GET", "/props", timeout_seconds=3)
            upstream.ready = status == 200 and self._read(upstream, props)
        except LlamaError:
            upstream.ready = False
        if not was_ready or (upstream.model, upstream.n_ctx, upstream.slots) != was:
            # It may be another server than the one that was asked.
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
        except (KeyError, TypeError, ValueError):
            return False
        return upstream.slots > 0
