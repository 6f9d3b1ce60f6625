"""Routers: llama-servers that hold several models and run some of them at a time.

llama-server is one if it is started without a model, usually with `--models-dir`. Each model that
it lists is an upstream of its own, whose client names the model in every call.
"""

import re
from dataclasses import dataclass
from typing import Any

from promptly.clients.llama import LlamaClient, LlamaError

# A router lists all that is in its folder and its cache.
MOST_MODELS = 256
LIST_TIMEOUT_SECONDS = 3

# A sleeping model wakes by itself, and is in no other model's place.
_RUNNING = frozenset({"loaded", "sleeping"})


# A router's errors for a model that was unloaded, or removed from its folder, since it was listed.
_MISSING = re.compile(r"model is not loaded|model '[^']*' not found")


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as its router lists it; `failed` if it could not be loaded the last time."""

    name: str
    aliases: tuple[str, ...] = ()
    is_loaded: bool = False
    failed: bool = False


def is_router(props: Any) -> bool:
    """Return whether a server's `/props` are a router's, which has no slots itself."""
    return isinstance(props, dict) and props.get("role") == "router"


def is_missing(answer: Any) -> bool:
    """Return whether a router's error says that it does not run the model, or not any more."""
    try:
        message = answer["error"]["message"]
    except (KeyError, TypeError):
        return False
    return isinstance(message, str) and _MISSING.fullmatch(message) is not None


def list_models(client: LlamaClient) -> list[ListedModel]:
    """Return a router's models, in its order; raises LlamaError if it does not list them."""
    status, answer = client.call("GET", "/v1/models", timeout_seconds=LIST_TIMEOUT_SECONDS)
    if status != 200:
        raise LlamaError(f"status {status}")
    try:
        return [_listed(entry) for entry in answer["data"][:MOST_MODELS]]
    except (AttributeError, KeyError, TypeError) as problem:
        raise LlamaError("not a list of models") from problem


def _listed(entry: Any) -> ListedModel:
    state = entry.get("status") or {}
    return ListedModel(
        name=str(entry["id"]),
        aliases=tuple(str(alias) for alias in entry.get("aliases") or ()),
        is_loaded=state.get("value") in _RUNNING,
        failed=bool(state.get("failed")),
    )
