"""The pool of llama-servers: the model, the endpoints and the readiness of each.

Each process probes for itself, every few seconds and when no server is ready for a request; one
that does not answer is probed ever less often. It learns which endpoints a server lacks from
refused requests. A drained server is probed, but gets no request. A model that is only good for
embeddings must be configured as such, because its server would generate text on request. Servers
that have not answered this process yet have the models that they are remembered by.

A server that is a router (`routers`) stays in the pool, but takes no requests: its models do.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from promptly.clients.llama import LlamaClient
from promptly.errors import PromptlyError, UnsupportedEndpoint, UpstreamUnavailable
from promptly.gateway import probes
from promptly.gateway.drained_servers import DrainedServers
from promptly.gateway.remembered_models import RememberedModels
from promptly.gateway.routers import ListedModel
from promptly.gateway.shared_calls import run_all
from promptly.gateway.upstream import SLOTS_PATH, Upstream
from promptly.runtime.database import HotPathDatabase
from promptly.settings import Settings

logger = logging.getLogger(__name__)

# Try an endpoint that a server lacked again after this long.
LACKING_SECONDS = 60.0

ALL_DRAINED = "The model servers are being taken out of service for maintenance. Try again later."


class UpstreamPool:
    """All configured llama-servers, and the models of those that are routers.

    `servers` are those configured; in `upstreams` the models of a router follow it. Without a
    database no server is drained, and none's models are remembered.
    """

    def __init__(self, settings: Settings, database: HotPathDatabase | None = None) -> None:
        self._drained_servers = DrainedServers(database)
        self._drained: frozenset[str] = frozenset()
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
        self._remembered = RememberedModels([server.url for server in self.servers], database)
        self.upstreams = list(self.servers)
        self._listing = threading.Lock()

    def ready(self, path: str = "", model: str = "") -> list[Upstream]:
        """Return the upstreams that can take a request to `path` for `model`.

        Without a path or a model, any will do. Stale ones are probed in the background. The caller
        waits for the first probe of a server, and for further ones only if none is ready.
        """
        self.mark_drained()
        found = [] if self._stale() else self._ready(path, model)
        if found:
            return found
        # One of those that were never asked may be the only one for the path, or of the model.
        self._probe_all(_never_probed, [up for up in self.servers if up.serves(path)])
        found = self._ready(path, model)
        if not found:
            self._probe_all(_rested, self._missing(path, model))
            found = self._ready(path, model)
        if any(up.ready for up in self.upstreams):
            # Those that were probed just now need no second probe.
            self._probe_in_background(self._stale())
        return found

    def refresh(self, path: str, model: str) -> None:
        """Probe in the background what `ready` would wait for."""
        self.mark_drained()
        due = self._stale()
        if not self._ready(path, model):
            due += [up for up in self._missing(path, model) if _rested(up) and up not in due]
        self._probe_in_background(due)

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

        Drained ones are among them. The caller waits only for the very first probe.
        """
        if not any(up.is_known for up in self.servers):
            self.ready()
        self._probe_in_background(self._stale())
        return [up for up in self.upstreams if up.ready and not up.is_router]

    def held(self) -> list[Upstream]:
        """Return the upstreams in service whose model is known, whether they answer or not."""
        return [up for up in self.upstreams if up.model and up.is_loaded and not up.drained]

    def refusal(self, path: str, model: str = "") -> PromptlyError:
        """Return the error for a request to `path`, for `model`, that no upstream takes."""
        able = [up for up in self.upstreams if up.is_router or up.serves(path)]
        if not able:
            return UnsupportedEndpoint()
        if self.all_drained(path, model):
            return UpstreamUnavailable(ALL_DRAINED)
        holders = [up for up in able if up.model == model]
        if not model or (not holders and not any(up.model for up in able)):
            return UpstreamUnavailable()
        if holders and all(up.is_unloaded for up in holders):
            return UpstreamUnavailable(f"The model '{model}' is not loaded.")
        return UpstreamUnavailable(
            f"No model server with the model '{model}' is ready. Please try again shortly."
        )

    def all_drained(self, path: str, model: str = "") -> bool:
        """Return whether every upstream that could take a request to `path` is drained."""
        able = [up for up in self.upstreams if up.serves(path) and model in ("", up.model)]
        return bool(able) and all(up.drained for up in able)

    def failed(self, upstream: Upstream) -> None:
        """Exclude an upstream that could not be reached, until a probe finds it ready."""
        if upstream.ready:
            logger.warning("upstream failed", extra={"upstream": upstream.name})
            upstream.doubted = True
        upstream.ready = False
        upstream.probed_at = time.monotonic()
        upstream.pause = probes.PROBE_SECONDS

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

    def mark_drained(self) -> None:
        """Take in which servers are drained; one that is resumed is probed at once."""
        names = self._drained_servers.names()
        if names != self._drained:
            self._drained = names
            for upstream in self.upstreams:
                drained = upstream.url in names
                if upstream.drained and not drained:
                    upstream.pause = 0.0
                upstream.drained = drained

    def probe(self, upstream: Upstream) -> bool:
        """Query an upstream's properties; return whether it is ready.

        Callers that come together share a probe.
        """
        upstream.probing.run(partial(self._ask, upstream))
        return upstream.ready

    def list_models(self, router: Upstream, listed: list[ListedModel]) -> None:
        """Take in a router's list, and probe the models that it has loaded."""
        known = {up.model: up for up in self.upstreams if up.router is router}
        models = []
        for item in listed:
            model = known.get(item.name) or Upstream(
                router.client.of_model(item.name),
                router.only_embeddings,
                model=item.name,
                router=router,
            )
            model.aliases, model.is_loaded = item.aliases, item.is_loaded
            model.load_failed, model.drained = item.failed, router.drained
            models.append(model)
        router.model, router.aliases = "", ()
        self._replace_models(router, models, is_router=True)
        for model in models:
            if not model.is_loaded:
                model.ready, model.probed_at = False, time.monotonic()
        run_all([partial(self.probe, up) for up in models if up.is_loaded], "probe-upstream")

    def forget_models(self, server: Upstream) -> None:
        """Take in that a server is no router any more."""
        self._replace_models(server, [], is_router=False)

    def lose_models(self, router: Upstream) -> None:
        """Take in that a router does not answer, and so none of its models does."""
        for upstream in self.upstreams:
            if upstream.router is router:
                upstream.ready, upstream.probed_at = False, time.monotonic()

    def _ready(self, path: str, model: str) -> list[Upstream]:
        return [
            up
            for up in self.upstreams
            if up.takes_requests and (not model or up.model == model) and up.serves(path)
        ]

    def _missing(self, path: str, model: str) -> Iterator[Upstream]:
        """Yield the upstreams that may take such a request once they are ready."""
        for upstream in self.upstreams:
            # A server that has never answered may hold any model.
            if upstream.drained or (model and upstream.model not in ("", model)):
                continue
            # A router lists many that are not loaded: its own probe finds out when one is.
            if not model and not upstream.is_loaded:
                continue
            if upstream.is_router or upstream.serves(path):
                yield upstream

    def _stale(self) -> list[Upstream]:
        now = time.monotonic()
        return [up for up in self.servers if now - up.probed_at > up.pause]

    def _replace_models(self, router: Upstream, models: list[Upstream], *, is_router: bool) -> None:
        with self._listing:
            router.is_router = is_router
            found: list[Upstream] = []
            for upstream in self.upstreams:
                if upstream is router:
                    found += [router, *models]
                elif upstream.router is not router:
                    found.append(upstream)
            self.upstreams = found

    def _ask(self, upstream: Upstream) -> None:
        probes.ask(upstream, self)
        if upstream.router is not None:
            return
        if upstream.ready:
            self._remembered.remember(upstream, self.upstreams)
        elif not upstream.model and not upstream.is_router:
            self._recall(upstream)

    def _recall(self, server: Upstream) -> None:
        """Take in the models of a server that this process has never seen."""
        remembered = self._remembered.of(server.url)
        if remembered is None:
            return
        if remembered.is_router:
            self.list_models(server, [ListedModel(it.name, it.aliases) for it in remembered.models])
            return
        [model] = remembered.models
        server.model, server.aliases, server.n_ctx = model.name, model.aliases, model.n_ctx

    def _probe_in_background(self, upstreams: Iterable[Upstream]) -> None:
        now = time.monotonic()
        for upstream in upstreams:
            # Requests wait for a first probe themselves, until it is done.
            if upstream.is_known:
                upstream.probed_at, upstream.pause = now, probes.PROBE_SECONDS
            upstream.probing.start(partial(self._ask, upstream), "probe-upstream")

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


def _never_probed(upstream: Upstream) -> bool:
    return not upstream.is_known


def _rested(upstream: Upstream) -> bool:
    """Return whether a server that is not ready may be asked again before a request is refused.

    At once where only a request has failed, perhaps by its own fault; at most once a second where
    a probe has failed.
    """
    rested = upstream.doubted or time.monotonic() - upstream.probed_at > 1.0
    return rested and not upstream.ready
