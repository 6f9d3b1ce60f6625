"""Probes: a model server is asked for its properties, a router also for its models."""

import logging
import time
from typing import Any, Protocol

from promptly.clients.llama import LlamaError
from promptly.gateway import probe_pauses, routers
from promptly.gateway.routers import ListedModel
from promptly.gateway.upstream import SLOTS_PATH, Upstream

logger = logging.getLogger(__name__)

PROBE_SECONDS = 5.0
PROBE_TIMEOUT_SECONDS = 3.0


class Models(Protocol):
    """The models of routers, each an upstream."""

    def list_models(self, router: Upstream, listed: list[ListedModel]) -> None:
        """Take in that a server is a router of these models, and probe the loaded ones."""

    def forget_models(self, server: Upstream) -> None:
        """Take in that a server is no router any more."""

    def lose_models(self, router: Upstream) -> None:
        """Take in that a router does not answer."""


def ask(upstream: Upstream, models: Models) -> None:
    """Query an upstream's properties, and take them in."""
    was_ready = upstream.ready
    was = (upstream.model, upstream.n_ctx, upstream.slots)
    upstream.doubted = False
    loading = False
    try:
        status, props = upstream.client.call("GET", "/props", timeout_seconds=PROBE_TIMEOUT_SECONDS)
        upstream.ready = status == 200 and _take_in(upstream, props, models)
        upstream.is_loaded = upstream.ready or upstream.router is None
        loading = status == 503
        upstream.problem = "" if upstream.ready else _problem(status)
    except LlamaError as problem:
        upstream.ready, upstream.problem = False, f"no answer ({problem})"
        if upstream.is_router:
            models.lose_models(upstream)
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


def _take_in(upstream: Upstream, props: Any, models: Models) -> bool:
    """Take in `/props`; return whether they are those of a server that can be used."""
    if upstream.router is None and routers.is_router(props):
        models.list_models(upstream, routers.list_models(upstream.client))
        return True
    if upstream.is_router:
        models.forget_models(upstream)
    return read_properties(upstream, props)


def read_properties(upstream: Upstream, props: Any) -> bool:
    """Store a model's properties; return whether they are usable."""
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


def _problem(status: int) -> str:
    if status == 503:
        return "loading its model"
    return "rejects the key" if status in (401, 403) else f"/props returned {status}"


def _set_pause(upstream: Upstream, *, loading: bool) -> None:
    failed = not (upstream.ready or loading)
    upstream.failures = upstream.failures + 1 if failed else 0
    pause = probe_pauses.while_loading() if loading else None
    upstream.pause = pause or probe_pauses.after_failures(upstream.failures, PROBE_SECONDS)
