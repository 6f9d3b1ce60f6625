"""Check every model server: whether it responds, which models it holds, where it keeps prompts.

A router's models are only looked at, never loaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3

from promptly.cli import prompt_cache_checks
from promptly.gateway.routers import is_router
from promptly.settings import Settings

TIMEOUT = urllib3.Timeout(connect=3, read=5)
UNUSABLE = "answers, but not with slots and context in /props: it gets no request"

# The subject, its level and the message.
Found = tuple[str, str, str]


@dataclass
class _Servers:
    """The connection to all servers, and the models' names found so far."""

    http: urllib3.PoolManager
    names: set[str] = field(default_factory=set)


def findings(settings: Settings) -> Iterator[Found]:
    """Yield what was found about each server, then about the names of models."""
    headers = {}
    if settings.llama_api_key:
        headers["Authorization"] = f"Bearer {settings.llama_api_key.reveal()}"
    with urllib3.PoolManager(retries=False, timeout=TIMEOUT, headers=headers) as http:
        servers = _Servers(http)
        for variable in ("llama_base_url", "llama_embeddings_base_url"):
            for url in getattr(settings, variable):
                subject = f"Upstream {urlsplit(url).netloc}"
                for level, message in _server(servers, url, variable, settings):
                    yield subject, level, message
    for message in _unknown_names(settings, servers.names):
        yield "Models", "warning", message


def _server(
    servers: _Servers, url: str, variable: str, settings: Settings
) -> Iterator[tuple[str, str]]:
    http = servers.http
    try:
        health = http.request("GET", f"{url}/health")
        if health.status != 200:
            yield "warning", f"not ready: /health returned {health.status}"
            return
        properties = http.request("GET", f"{url}/props")
        known = properties.json() if properties.status == 200 else {}
        listed = http.request("GET", f"{url}/v1/models").json() if is_router(known) else None
    except (urllib3.exceptions.HTTPError, ValueError) as problem:
        reason = type(problem).__name__
        yield "error", f"not responding ({reason}); check {variable.upper()}"
        return
    if properties.status in {401, 403}:
        yield "error", "rejects the key: check LLAMA_API_KEY"
    elif listed is not None:
        yield from _router(servers, url, listed, settings)
    elif not _is_usable(known):
        yield "warning", UNUSABLE
    else:
        names = str(known.get("model_alias") or "model").split(",")
        servers.names.update(names)
        yield "ok", _described(names[0], known)
        if variable == "llama_base_url":
            yield prompt_cache_checks.finding(http, url)


def _router(
    servers: _Servers, url: str, listed: Any, settings: Settings
) -> Iterator[tuple[str, str]]:
    """Yield findings about a router: its models, and what it needs configured."""
    try:
        entries = list(listed["data"])
        names = [str(entry["id"]) for entry in entries]
        for entry in entries:
            servers.names.update((str(entry["id"]), *entry.get("aliases", ())))
        states = [str(entry["status"]["value"]) for entry in entries]
        saving = [
            name
            for name, entry in zip(names, entries, strict=True)
            if _value_after(entry["status"].get("args") or [], "--cache-ram") != "0"
        ]
    except (AttributeError, KeyError, TypeError):
        yield "warning", "a router that does not list its models: they get no requests"
        return
    described = []
    for name, state in zip(names, states, strict=True):
        known = _props(servers.http, url, name) if state == "loaded" else None
        described.append(_described(name, known) if known else f"{name} ({state})")
    yield "ok", f"a router; {'; '.join(described) or 'without models'}"
    if not settings.default_model:
        yield "warning", "a router: set DEFAULT_MODEL, or the default changes with what is loaded"
    if saving:
        where = ", ".join(saving)
        yield "warning", f"{where}: saves prompts that slots lose: {prompt_cache_checks.ADVICE}"


def _props(http: urllib3.PoolManager, url: str, model: str) -> Any:
    """Return a loaded model's `/props`, None if they are not usable."""
    query = f"model={quote(model, safe='')}&autoload=false"
    try:
        answer = http.request("GET", f"{url}/props?{query}")
        known = answer.json() if answer.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError):
        return None
    return known if _is_usable(known) else None


def _is_usable(known: Any) -> bool:
    try:
        n_ctx = known["default_generation_settings"]["n_ctx"]
        return int(known["total_slots"]) > 0 and int(n_ctx) > 0
    except (KeyError, TypeError, ValueError):
        return False


def _described(name: str, known: Any) -> str:
    n_ctx = known["default_generation_settings"]["n_ctx"]
    return f"{name}, {known['total_slots']} slots, context {n_ctx}"


def _value_after(arguments: list[str], option: str) -> str:
    place = arguments.index(option) + 1 if option in arguments else len(arguments)
    return arguments[place] if place < len(arguments) else ""


def _unknown_names(settings: Settings, names: set[str]) -> Iterator[str]:
    """Yield a message for each configured name that no server that responds holds."""
    if settings.default_model and settings.default_model not in names:
        yield (
            f"DEFAULT_MODEL is {settings.default_model}, which no server holds: requests that name "
            "no known model are refused"
        )
    for alias, model in settings.model_aliases.items():
        if model not in names:
            yield f"MODEL_ALIASES: {alias} means {model}, which no server holds"
