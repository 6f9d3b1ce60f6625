"""GET /v1/models and /v1/models/{id}: models and aliases, in the format of the client's API.

Clients look for their configured name in the list, so an alias is an entry like a model.
Upstream's own answer, which contains paths and sizes, is not passed on.
"""

from dataclasses import dataclass
from typing import Any

from flask import Response, jsonify, request

from promptly.blueprints.v1 import in_flask
from promptly.errors import InvalidRequest, NotFound
from promptly.gateway import current_gateway
from promptly.runtime.logs import redact

# Of a page in Anthropic's format, as in Anthropic's API.
DEFAULT_LIMIT = 20
MAX_LIMIT = 1000

Model = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Entry:
    """`n_ctx` is the longest context of its servers, in tokens; `model` is an alias's target.

    The context of a model that was never loaded is 0.
    """

    n_ctx: int
    model: str | None = None


def _entries() -> dict[str, _Entry]:
    """Return the models of all servers in service, by name, and the aliases of them.

    Those whose servers are away are among them: a request that names one gets 503.
    """
    gateway = current_gateway()
    lengths: dict[str, int] = {}
    for upstream in gateway.pool.ready():
        lengths[upstream.model] = max(lengths.get(upstream.model, 0), upstream.n_ctx)
    for upstream in (*gateway.pool.held(), *gateway.model_loading.loadable()):
        lengths.setdefault(upstream.model, upstream.n_ctx)
    found = {name: _Entry(n_ctx) for name, n_ctx in lengths.items()}
    for alias, model in gateway.model_names.aliases.items():
        name = gateway.model_names.named(model)
        if name in lengths and alias != name:
            # An alias wins over a model of the same name, as in requests.
            found[alias] = _Entry(lengths[name], name)
    return found


def listed() -> list[Model]:
    """Return the models in service and their aliases, in OpenAI's format, each once."""
    return _shown(_entries())


def _shown(entries: dict[str, _Entry]) -> list[Model]:
    return [_openai(name, entry) for name, entry in entries.items()]


def _allowed() -> dict[str, _Entry]:
    """Return the entries that the caller's key may use."""
    found, leash = _entries(), in_flask.caller().leash
    if leash is None:
        return found
    aliases = current_gateway().model_names.aliases
    return {
        name: entry
        for name, entry in found.items()
        if leash.allows_model(entry.model or name, aliases)
    }


def list_models() -> Response:
    """List the models in service that the key may use."""
    if in_flask.current().is_anthropic:
        return jsonify(_page())
    return jsonify(object="list", data=_shown(_allowed()))


def show_model(name: str) -> Response:
    """Return one model; raise NotFound for an unknown id."""
    entry = _allowed().get(name)
    if entry is None:
        raise NotFound(
            f"The model '{redact(name)[:100]}' does not exist.",
            param="model",
            code="model_not_found",
        )
    describe = _anthropic if in_flask.current().is_anthropic else _openai
    return jsonify(describe(name, entry))


def _openai(name: str, entry: _Entry) -> Model:
    n_ctx = {"n_ctx": entry.n_ctx} if entry.n_ctx else {}
    alias_of = {} if entry.model is None else {"alias_of": entry.model}
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "promptly",
        "meta": {**n_ctx, **alias_of},
        "pricing": _pricing(entry.model or name),
    }


def _anthropic(name: str, entry: _Entry) -> Model:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        # For an unknown date Anthropic's API has the epoch as well.
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": entry.n_ctx or None,
        "max_tokens": entry.n_ctx or None,
    }


def _pricing(name: str) -> dict[str, str]:
    """Return what a token costs, in tokens of the balance."""
    return current_gateway().price_list.shown(name).in_tokens()


def _page() -> dict[str, Any]:
    """Build a page of Anthropic's list, ordered by id: a model that is gone may be its cursor."""
    models = _allowed()
    after, before = request.args.get("after_id"), request.args.get("before_id")
    names = sorted(models)
    if after:
        names = [name for name in names if name > after]
    if before:
        names = [name for name in names if name < before]
    limit = _limit()
    # A page that ends at a cursor is the one directly before it.
    shown = names[-limit:] if before and not after else names[:limit]
    return {
        "data": [_anthropic(name, models[name]) for name in shown],
        "has_more": len(shown) < len(names),
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
    }


def _limit() -> int:
    text = request.args.get("limit", str(DEFAULT_LIMIT))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"'limit' must lie between 1 and {MAX_LIMIT}.", param="limit")
    return limit
