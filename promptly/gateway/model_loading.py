"""Lets a router load a model that a request names, and waits until it is loaded.

Only with ROUTER_AUTOLOAD: to make room, the router may unload another model.
"""

import logging
import time
from collections.abc import Iterator

import orjson

from promptly.clients.llama import LlamaError
from promptly.errors import UpstreamTimeout, UpstreamUnavailable
from promptly.gateway.upstream import Upstream
from promptly.gateway.upstreams import UpstreamPool

logger = logging.getLogger(__name__)

# Waiting requests look this often whether the model is loaded.
LOOK_SECONDS = 0.5
# The router may first have to end another model's process.
ASK_TIMEOUT_SECONDS = 15


class ModelLoading:
    """Asks routers to load models; `limit_seconds` is how long a request waits, None for never."""

    def __init__(self, pool: UpstreamPool, limit_seconds: int | None) -> None:
        self._pool = pool
        self._limit_seconds = limit_seconds

    def may_load(self, path: str, model: str) -> bool:
        """Return whether a request for the model would make a router load it."""
        return self._limit_seconds is not None and self._unloaded(path, model) is not None

    def loadable(self) -> list[Upstream]:
        """Return the upstreams that are not loaded, but would be for a request."""
        if self._limit_seconds is None:
            return []
        return [up for up in self._pool.upstreams if up.is_unloaded]

    def waits(self, path: str, model: str) -> Iterator[None]:
        """Ask for the model if it has to be loaded, and yield until it is; the caller pauses.

        Yields nothing where no router may load it, whether it is ready or not. Raises
        UpstreamUnavailable if it cannot be loaded, UpstreamTimeout after the limit.
        """
        limit_seconds = self._limit_seconds
        if limit_seconds is None or self._pool.ready(path, model):
            return
        upstream = self._unloaded(path, model)
        if upstream is None or upstream.router is None:
            return
        deadline = time.monotonic() + limit_seconds
        self._ask(upstream, upstream.router)
        while not self._pool.ready(path, model):
            if upstream.load_failed:
                raise UpstreamUnavailable(f"The model '{model}' could not be loaded.")
            if time.monotonic() > deadline:
                raise UpstreamTimeout(
                    f"The model '{model}' was not loaded within {limit_seconds} s."
                )
            yield

    def _unloaded(self, path: str, model: str) -> Upstream | None:
        """Return a router's upstream for the model, None if there is none or it is loaded."""
        return next(
            (
                up
                for up in self._pool.upstreams
                if up.is_unloaded and up.model == model and up.serves(path)
            ),
            None,
        )

    def _ask(self, upstream: Upstream, router: Upstream) -> None:
        upstream.load_failed = False
        logger.info("loading model", extra={"upstream": upstream.name})
        try:
            router.client.call(
                "POST",
                "/models/load",
                orjson.dumps({"model": upstream.model}),
                timeout_seconds=ASK_TIMEOUT_SECONDS,
            )
        except LlamaError as problem:
            # It may be loading nevertheless: the caller's limit ends the wait.
            logger.warning(
                "router did not answer",
                extra={"upstream": router.name, "reason": type(problem).__name__},
            )
