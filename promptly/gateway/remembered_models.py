"""The models that each model server held when it last answered any gateway, in PostgreSQL.

A process that starts while a server is away learns from here which models it should have, so that
no other model answers for them (ADR 33). They are read once, when the first probe has an answer or
none; and written when a server holds other models than those. Rows of servers that are configured
no more are ignored, and deleted by a process that starts a day after they were written.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import orjson

from promptly.gateway.refreshed import FAILURES, Refreshed
from promptly.gateway.upstream import Upstream
from promptly.runtime.database import HotPathDatabase

logger = logging.getLogger(__name__)

# During a deploy that adds a server, a process with the settings before must not forget it.
_READ = """
WITH forgotten AS (
    DELETE FROM upstream_models
    WHERE url <> ALL(%(urls)s) AND written_at < now() - interval '1 day'
)
SELECT url, is_router, models FROM upstream_models WHERE url = ANY(%(urls)s)
"""
_WRITE = """
INSERT INTO upstream_models (url, is_router, models)
VALUES (%(url)s, %(is_router)s, %(models)s)
ON CONFLICT (url) DO UPDATE
SET is_router = excluded.is_router, models = excluded.models, written_at = now()
RETURNING url
"""


@dataclass(frozen=True, slots=True)
class RememberedModel:
    """A model's name, the further names that its server gives it, and its context in tokens.

    The context of a router's model is 0: it is known once the model is loaded.
    """

    name: str
    aliases: tuple[str, ...] = ()
    n_ctx: int = 0


@dataclass(frozen=True, slots=True)
class RememberedServer:
    """The models of one server; more than one only if it is a router."""

    models: tuple[RememberedModel, ...]
    is_router: bool = False


class RememberedModels:
    """The models by the URLs of their servers; nothing is remembered without a database."""

    def __init__(self, urls: Sequence[str], database: HotPathDatabase | None = None) -> None:
        self._urls = list(urls)
        self._database = database
        self._stored: Refreshed[dict[str, RememberedServer] | None] = Refreshed(
            "remembered-models", self._read, None, every_seconds=inf
        )

    def of(self, url: str) -> RememberedServer | None:
        """Return what is remembered of a server, None if nothing is or PostgreSQL is away."""
        return (self._stored.get() or {}).get(url)

    def remember(self, upstream: Upstream, upstreams: Iterable[Upstream]) -> None:
        """Write what a server holds, if it is news; the next call repeats a failed write.

        The models of a router are among the `upstreams`.
        """
        url, server = upstream.url, _seen(upstream, upstreams)
        stored = self._stored.get()
        if self._database is None or stored is None or stored.get(url) == server:
            return
        models = [[model.name, model.aliases, model.n_ctx] for model in server.models]
        written = orjson.dumps(models).decode()
        values = {"url": url, "is_router": server.is_router, "models": written}
        try:
            self._database.fetch_all(_WRITE, values)
        except FAILURES as problem:
            reason = type(problem).__name__
            logger.warning("models not remembered", extra={"upstream": url, "reason": reason})
        else:
            stored[url] = server

    def _read(self) -> dict[str, RememberedServer]:
        if self._database is None:
            return {}
        rows = self._database.fetch_all(_READ, {"urls": self._urls})
        return {url: _parsed(is_router, models) for url, is_router, models in rows}


def _seen(server: Upstream, upstreams: Iterable[Upstream]) -> RememberedServer:
    if not server.is_router:
        model = RememberedModel(server.model, server.aliases, server.n_ctx)
        return RememberedServer((model,))
    models = (up for up in upstreams if up.router is server)
    found = tuple(RememberedModel(up.model, up.aliases) for up in models)
    return RememberedServer(found, is_router=True)


def _parsed(is_router: bool, models: list[list[Any]]) -> RememberedServer:
    return RememberedServer(
        tuple(RememberedModel(name, tuple(aliases), n_ctx) for name, aliases, n_ctx in models),
        is_router,
    )
