"""The pool of llama-servers: the model, the endpoints and the readiness of each.

Each process probes for itself, every few seconds and when no server is ready for a request. It
learns which endpoints a server lacks from refused requests. A model that is only good for
embeddings must be configured as such, because its server would generate text on request.

A server that is a router (`routers`) stays in the pool, but takes no requests: its models do.
"""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from promptly.clients.llama import LlamaClient, LlamaError
from promptly.errors import PromptlyError, UnsupportedEndpoint, UpstreamUnavailable
from promptly.gateway import routers
from promptly.gateway.upstream import SLOTS_PATH, Upstream
from promptly.settings import Settings

logger = logging.getLogger(__name__)

PROBE_SECONDS = 5.0
# Try an endpoint that a server lacked again after this long.
LACKING_SECONDS = 60.0


class UpstreamPool:
    """All configured llama-servers, and the models of those that are routers.

    `servers` are those configured; in `upstreams` the models of a router follow it.
    """

    def __init__(self, settings: Settings) -> None:
        self.servers = [
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
        self.upstreams = list(self.servers)
        self._probing = threading.Lock()
        self._looking = threading.Lock()
        self._listing = threading.Lock()

    def ready(self, path: str = "", model: str = "") -> list[Upstream]:
        """Return the upstreams that can take a request to `path` for `model`.

        Without a path or a model, any will do. Stale ones are probed in the background. The caller
        waits for the first probe of a server, and for further ones only if none is ready.
        """
        fresh_since = time.monotonic() - PROBE_SECONDS
        stale = [up for up in self.servers if up.probed_at < fresh_since]
        found = [] if stale else self._ready(path, model)
        if found:
            return found
        self._probe_unknown([up for up in self.servers if up.serves(path)])
        # Those that were probed just now need no second probe.
        stale = [up for up in stale if up.probed_at < fresh_since]
        if stale and any(up.ready for up in self.upstreams):
            self._probe_in_background(stale)
        return self._ready(path, model) or self._look_again(path, model)

    def _ready(self, path: str, model: str) -> list[Upstream]:
        return [
            up
            for up in self.upstreams
            if up.ready and (not model or up.model == model) and up.serves(path)
        ]

    def refresh(self, path: str, model: str) -> list[Upstream]:
        """As `ready`, but never wait: probe in the background what `ready` would wait for."""
        found = self._ready(path, model)
        now = time.monotonic()
        stale = [up for up in self.servers if up.probed_at < now - PROBE_SECONDS]
        if not found:
            stale += [up for up in self._missing(path, model) if up not in stale]
        if stale:
            self._probe_in_background(stale)
        return found

    def named(self, name: str) -> Upstream | None:
        """Return the upstream of this name, None if it is not one of ours."""
        return next((up for up in self.upstreams if up.name == name), None)

    def require(self, path: str, model: str = "") -> list[Upstream]:
        """As `ready`, but raise UpstreamUnavailable or UnsupportedEndpoint if there is none."""
        found = self.ready(path, model)
        if not found:
            raise self.refusal(path, model)
        return found

    def seen(self) -> list[Upstream]:
        """Return the upstreams that were ready when last probed, for pages that must not wait.

        The caller waits only for the very first probe.
        """
        if all(up.probed_at == float("-inf") for up in self.upstreams):
            return self.ready()
        now = time.monotonic()
        stale = [up for up in self.servers if now - up.probed_at > PROBE_SECONDS]
        if stale:
            self._probe_in_background(stale)
        return self._ready("", "")

    def refusal(self, path: str, model: str = "") -> PromptlyError:
        """Return the error for a request to `path`, for `model`, that no upstream takes."""
        able = [up for up in self.upstreams if up.is_router or up.serves(path)]
        if not able:
            return UnsupportedEndpoint()
        holders = [up for up in able if up.model == model]
        if not model or (not holders and not any(up.model for up in able)):
            return UpstreamUnavailable()
        if holders and not any(up.is_loaded for up in holders):
            return UpstreamUnavailable(f"The model '{model}' is not loaded.")
        return UpstreamUnavailable(
            f"No model server with the model '{model}' is ready. Please try again shortly."
        )

    def _probe_unknown(self, able: list[Upstream]) -> None:
        """Probe servers for the first time: one of them may be the only one for a path."""
        if any(up.probed_at == float("-inf") for up in able):
            with self._looking:
                for upstream in able:
                    if upstream.probed_at == float("-inf"):
                        self.probe(upstream)

    def _look_again(self, path: str, model: str) -> list[Upstream]:
        """Probe upstreams once more, as none is ready, before the request is refused."""
        with self._looking:
            for upstream in self._missing(path, model):
                self.probe(upstream)
        return self._ready(path, model)

    def _missing(self, path: str, model: str) -> Iterator[Upstream]:
        """Yield the upstreams that may hold the model, are not ready, and may be probed again.

        At once where only a request has failed, perhaps by its own fault; at most once a second
        where a probe has failed.
        """
        for upstream in self.upstreams:
            # A server that has never answered may hold any model.
            if upstream.ready or (model and upstream.model not in ("", model)):
                continue
            # A router lists many that are not loaded: its own probe finds out when one is.
            if not model and not upstream.is_loaded:
                continue
            rested = upstream.doubted or time.monotonic() - upstream.probed_at > 1.0
            if rested and (upstream.is_router or upstream.serves(path)):
                yield upstream

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
            is_router = status == 200 and upstream.router is None and routers.is_router(props)
            if upstream.is_router and not is_router and status == 200:
                self._replace_models(upstream, [])
            if is_router:
                self._read_models(upstream)
                upstream.ready = True
            else:
                upstream.ready = status == 200 and self._read(upstream, props)
                upstream.is_loaded = upstream.ready or upstream.router is None
        except LlamaError:
            upstream.ready = False
            if upstream.is_router:
                self._lose(upstream)
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

    def _read_models(self, router: Upstream) -> None:
        """Take in a router's list, and probe the models that it has loaded; raises LlamaError."""
        known = {up.model: up for up in self.upstreams if up.router is router}
        models = []
        for listed in routers.list_models(router.client):
            model = known.get(listed.name) or Upstream(
                router.client.of_model(listed.name),
                router.only_embeddings,
                model=listed.name,
                router=router,
            )
            model.aliases, model.is_loaded = listed.aliases, listed.is_loaded
            model.load_failed = listed.failed
            models.append(model)
        self._replace_models(router, models, is_router=True)
        for model in models:
            if model.is_loaded:
                self.probe(model)
            else:
                model.ready, model.probed_at = False, time.monotonic()

    def _replace_models(
        self, router: Upstream, models: list[Upstream], *, is_router: bool = False
    ) -> None:
        with self._listing:
            router.is_router = is_router
            if is_router:
                router.model, router.aliases = "", ()
            found: list[Upstream] = []
            for upstream in self.upstreams:
                if upstream is router:
                    found += [router, *models]
                elif upstream.router is not router:
                    found.append(upstream)
            self.upstreams = found

    def _lose(self, router: Upstream) -> None:
        """Note that a router is away, and all its models with it."""
        for upstream in self.upstreams:
            if upstream.router is router:
                upstream.ready, upstream.probed_at = False, time.monotonic()

    @staticmethod
    def _read(upstream: Upstream, props: Any) -> bool:
        try:
            upstream.n_ctx = int(props["default_generation_settings"]["n_ctx"])
            upstream.slots = int(props["total_slots"])
            if upstream.router is None:
                names = str(props.get("model_alias") or "model").split(",")
                upstream.model, upstream.aliases = names[0], tuple(names[1:])
            upstream.shows_slots = bool(props.get("endpoint_slots")) and upstream.serves(SLOTS_PATH)
        except (KeyError, TypeError, ValueError, OverflowError):
            return False
        return upstream.slots > 0 and upstream.n_ctx > 0
