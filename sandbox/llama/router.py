"""llama-server's router mode: several models on one port, each loaded and unloaded by request.

Each model is a `Server` of its own, without a port, with slots of its own; records, faults and
scripts are common to all. As with llama-server, a GET names its model in the URL and a POST in its
body, and `autoload` in the URL overrides the router's own default.
"""

import asyncio
from dataclasses import replace
from typing import Any

from sandbox.llama import descriptions, prompt
from sandbox.llama.http import Connection, Request
from sandbox.llama.replies import NOT_FOUND, BadRequest, json_reply
from sandbox.llama.server import Options, Server

UNLOADED, LOADING, LOADED = "unloaded", "loading", "loaded"


class Router(Server):
    """The simulated router. The first `loaded` of its `models` are loaded at the start.

    At most `most` are loaded at a time; the `broken` ones never are. Loading takes `load_seconds`.
    """

    def __init__(
        self,
        options: Options,
        models: list[str],
        *,
        loaded: int = 0,
        most: int = 4,
        load_seconds: float = 0.0,
        broken: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(options)
        self._models = {name: Server(replace(options, alias=name), parent=self) for name in models}
        self._most = most
        self._load_seconds = load_seconds
        self._states = dict.fromkeys(models, UNLOADED)
        self._broken = broken
        self._failed: set[str] = set()
        # The loaded ones, the least recently used first.
        self._order: list[str] = []
        self._ready = asyncio.Event()
        for name in models[:loaded]:
            self._finish(name)

    def _finish(self, name: str) -> None:
        if name in self._broken:
            self._states[name] = UNLOADED
            self._failed.add(name)
        else:
            self._states[name] = LOADED
            self._order.append(name)
        self._ready.set()
        self._ready = asyncio.Event()

    def load(self, name: str) -> None:
        """Start to load a model; the least recently used one makes room."""
        if self._states[name] != UNLOADED:
            return
        while len(self._order) >= self._most:
            self._states[self._order.pop(0)] = UNLOADED
        self._failed.discard(name)
        self._states[name] = LOADING
        self.records.totals.loads += 1
        asyncio.get_running_loop().call_later(self._load_seconds, self._finish, name)

    def unload(self, name: str) -> None:
        """Unload a model at once."""
        self._states[name] = UNLOADED
        if name in self._order:
            self._order.remove(name)

    async def serve(self, request: Request, connection: Connection) -> bytes:
        match (request.method, request.path):
            case ("GET", "/health"):
                return json_reply({"status": "ok"})
            case ("GET", "/v1/models" | "/models"):
                return json_reply(self._list())
            case ("GET", "/props") if not request.query.get("model"):
                return json_reply(descriptions.router_props(self._most))
            case ("POST", "/models/load" | "/models/unload" as path):
                return self._steer(path, prompt.parse(request.body).get("model"))
            case ("GET", _):
                server = await self._server(request.query.get("model"), request)
            case ("POST", _):
                server = await self._server(prompt.parse(request.body).get("model"), request)
            case _:
                return NOT_FOUND
        return await server.serve(request, connection)

    async def _server(self, name: str | None, request: Request) -> Server:
        """Return the server of a model, which is loaded first unless the request forbids it."""
        if not name:
            raise BadRequest("model name is missing from the request")
        if name not in self._models:
            raise BadRequest(f"model '{name}' not found")
        if request.query.get("autoload", "true") not in ("true", "1"):
            if self._states[name] != LOADED:
                raise BadRequest("model is not loaded")
        else:
            self.load(name)
            while self._states[name] == LOADING:
                await self._ready.wait()
        if request.method == "POST" and name in self._order:
            self._order.remove(name)
            self._order.append(name)
        return self._models[name]

    def _steer(self, path: str, name: Any) -> bytes:
        if name not in self._models:
            raise BadRequest("model is not found", "not_found_error", 404)
        if path.endswith("/unload"):
            self.unload(name)
        elif self._states[name] != UNLOADED:
            raise BadRequest("model is already running")
        else:
            self.load(name)
        return json_reply({"success": True})

    def _list(self) -> dict[str, Any]:
        entries = []
        for name, state in self._states.items():
            entry = descriptions.models(name, self.options.ctx)["data"][0]
            status: dict[str, Any] = {"value": state, "args": ["llama-server", "--cache-ram", "0"]}
            if name in self._failed:
                status |= {"exit_code": 1, "failed": True}
            entry |= {"aliases": [], "status": status, "source": "models_dir"}
            if state != LOADED:
                del entry["meta"]
            entries.append(entry)
        return {"data": entries, "object": "list"}
