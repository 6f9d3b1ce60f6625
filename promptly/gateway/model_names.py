"""Which model a request gets: the one that it names, an alias's, or the default one (ADR 33)."""

from collections.abc import Mapping

from promptly.errors import UnsupportedEndpoint
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.upstream import EMBEDDINGS_PATH
from promptly.gateway.upstreams import UpstreamPool
from promptly.services.accounts.authentication import Caller


class ModelNames:
    """The names of models: those of the servers, and the operator's aliases and default.

    A model stays known while its servers are away: its requests wait for them, or fail, but no
    other model answers them.
    """

    def __init__(self, pool: UpstreamPool, aliases: Mapping[str, str], default: str) -> None:
        self._pool = pool
        self.aliases = aliases
        self._default = default

    def resolve(self, name: str, path: str) -> str:
        """Return the model for a request to `path` that names `name`, which may be empty.

        Raises UpstreamUnavailable if no model is known yet, and UnsupportedEndpoint if no server
        serves the path, or none of the named model does.
        """
        pool = self._pool
        # Each server has been asked for its model once, and again if none is ready.
        pool.ready(path)
        target = self.aliases.get(name, name)
        if target:
            found = self._find(target, path)
            if found or name in self.aliases:
                return found or target
        default = self.default(path)
        if not default:
            raise pool.refusal(path)
        return default

    def resolve_for(self, caller: Caller, name: str, path: str) -> str:
        """Return the model as `resolve` does; raises ModelNotAllowed if the key may not use it."""
        model = self.resolve(name, path)
        if caller.leash is not None:
            caller.leash.require_model(model, self.aliases)
        return model

    def default(self, path: str = ChatRequest.path) -> str:
        """Return the model of requests that name none, as last seen; empty if none is known."""
        chosen = self._default
        if chosen and path != EMBEDDINGS_PATH:
            return self.named(chosen) or chosen
        able = [up for up in self._pool.upstreams if up.model and up.serves(path)]
        if path == EMBEDDINGS_PATH:
            # A server for embeddings alone was configured for them.
            able = [up for up in able if up.only_embeddings] or able
            able = [up for up in able if up.holds(chosen)] or able
        for upstream in able:
            if upstream.is_loaded:
                return upstream.model
        return able[0].model if able else ""

    def named(self, name: str) -> str:
        """Return the model that has this name, empty if none is known."""
        return next((up.model for up in self._pool.upstreams if up.holds(name)), "")

    def _find(self, name: str, path: str) -> str:
        """Return the model that has this name, empty if none has."""
        holder = None
        for upstream in self._pool.upstreams:
            if upstream.holds(name):
                if upstream.serves(path):
                    return upstream.model
                holder = upstream
        if holder is not None:
            raise UnsupportedEndpoint(f"The model '{holder.model}' does not serve this endpoint.")
        return ""
