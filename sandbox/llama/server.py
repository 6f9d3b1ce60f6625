"""The routes of the simulated llama-server."""

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from sandbox.llama import checks, descriptions, embeddings, prompt
from sandbox.llama.answers import answer
from sandbox.llama.chunks import ChatChunks, TextChunks
from sandbox.llama.control import Control
from sandbox.llama.faults import Faults, Steering
from sandbox.llama.generation import Generation, Pace
from sandbox.llama.http import Connection, Request
from sandbox.llama.lies import told
from sandbox.llama.prompt import Body
from sandbox.llama.prompt_cache import Prompt, PromptMemory
from sandbox.llama.records import Record, Records
from sandbox.llama.replies import (
    LOADING,
    NOT_FOUND,
    WRONG_KEY,
    BadRequest,
    json_reply,
    not_supported,
    reply,
    too_long,
)
from sandbox.llama.script import Scripts
from sandbox.llama.slots import Slots, Task

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
PUBLIC = {"/health", "/v1/health"}
EMBEDDINGS = "/v1/embeddings"


@dataclass(frozen=True, slots=True)
class Options:
    """The server's startup options. ``ctx`` is per slot, as the server reports it.

    ``batch`` is the physical batch, which bounds a text to embed, and ``cache_ram`` the MiB for
    prompts that slots have lost. Without ``shows_slots`` there is no ``/slots``.
    """

    slots: int = 4
    ctx: int = 32768
    alias: str = "sim-model"
    api_key: str = ""
    answer_tokens: int = 48
    embeddings: bool = False
    batch: int = 512
    cache_ram: int = 0
    shows_slots: bool = True
    pace: Pace = field(default_factory=Pace)
    crash_file: Path | None = None


class Server:
    """The simulated llama-server; one with a `parent` shares its records, faults and scripts."""

    def __init__(self, options: Options, parent: "Server | None" = None) -> None:
        self.options = options
        self.faults: Faults = parent.faults if parent else Faults()
        self.scripts: Scripts = parent.scripts if parent else Scripts()
        self.records: Records = parent.records if parent else Records()
        if options.crash_file is not None and parent is None:
            self.records.restore(options.crash_file)
        self.slots = Slots(options.slots, PromptMemory(options.cache_ram), self.records)
        shared = (self.records, self.faults, self.scripts, self.slots)
        self._control = Control(*shared, options.crash_file, self._start_refusing)
        self.port = 0
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._refusing: asyncio.Task[None] | None = None

    async def listen(self, port: int, host: str = "127.0.0.1") -> None:
        """Accept connections; port 0 takes a free one. ``self.port`` is the result."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self.handle, self._connections), host, port, backlog=1024
        )
        self.port = int(self._listener.sockets[0].getsockname()[1])

    async def handle(self, request: Request, connection: Connection) -> None:
        if request.path.startswith("/__sim/"):
            connection.begin(self._control.answer(request))
            return
        try:
            response = await self._route(request, connection)
        except BadRequest as error:
            response = reply(error.status, error.body())
        if response and not connection.gone:
            connection.begin(response)
            if not response.startswith(b"HTTP/1.1 2"):
                self.records.totals.refused += 1
                connection.close()

    async def _route(self, request: Request, connection: Connection) -> bytes:
        if self.faults.loading:
            return LOADING
        if not self._is_allowed(request):
            return WRONG_KEY
        return await self.serve(request, connection)

    async def serve(self, request: Request, connection: Connection) -> bytes:
        """Answer an allowed request: return the response, or nothing if it was sent already."""
        route = (request.method, request.path)
        if route in (("POST", CHAT), ("POST", TEXT)):
            await self._generate(request, connection)
            return b""
        if route == ("POST", EMBEDDINGS):
            return await self._embed(request, connection)
        if request.method == "GET":
            return self._get(request)
        if request.method == "OPTIONS":
            return reply(200, b"", "text/html")
        return self._post(request) if request.method == "POST" else NOT_FOUND

    def _is_allowed(self, request: Request) -> bool:
        if not self.options.api_key or request.path in PUBLIC:
            return True
        given = request.headers.get("authorization", "") or request.headers.get("x-api-key", "")
        return given.removeprefix("Bearer ") in self.options.api_key.split(",")

    def _get(self, request: Request) -> bytes:
        options, slots = self.options, self.slots
        match request.path:
            case "/health" | "/v1/health":
                return json_reply({"status": "ok"})
            case "/v1/models" | "/models":
                return json_reply(descriptions.models(options.alias, options.ctx))
            case "/props":
                return json_reply(descriptions.props(options.alias, options.ctx, len(slots.all)))
            case "/slots" if not options.shows_slots:
                raise not_supported(
                    "This server does not support slots endpoint. Start it with `--slots`"
                )
            case "/slots":
                if request.query.get("fail_on_no_slot") and slots.processing == len(slots.all):
                    raise BadRequest("no slot available", "unavailable_error", 503)
                return json_reply(descriptions.slots(slots.all, options.ctx))
            case "/metrics":
                text = descriptions.metrics(self.records.totals, slots.processing, slots.deferred)
                return reply(200, text.encode(), "text/plain; version=0.0.4")
        return NOT_FOUND

    def _post(self, request: Request) -> bytes:
        match request.path:
            case "/v1/chat/completions/input_tokens" | "/v1/responses/input_tokens":
                return self._count(request, {"object": "response.input_tokens"})
            case "/v1/messages/count_tokens":
                return self._count(request, {})
            case "/apply-template":
                body = prompt.parse(request.body)
                checks.check_chat(body)
                return json_reply({"prompt": prompt.template(body)})
            case "/tokenize":
                self.records.totals.counted += 1
                return json_reply({"tokens": prompt.tokens(prompt.parse(request.body))})
        return NOT_FOUND

    def _count(self, request: Request, fields: dict[str, str]) -> bytes:
        self.records.totals.counted += 1
        body = prompt.parse(request.body)
        if "messages" not in body and "input" in body:
            given = body["input"]
            messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
            body = body | {"messages": messages}
        checks.check_chat(body)
        steering = self.faults.steering(prompt.last_text(body), "count")
        _die_if_asked(steering)
        _refuse_if_asked(steering)
        counted = {"input_tokens": prompt.count_messages(body), **fields}
        return reply(200, told(orjson.dumps(counted), steering.lie))

    async def _embed(self, request: Request, connection: Connection) -> bytes:
        body = prompt.parse(request.body)
        record = Record(request.path, request.headers, body, len(request.body))
        self.records.add(record)
        try:
            return await self._vectors(body, record, connection)
        finally:
            if record.ended_at is None:
                self.records.end(record, "rejected")

    async def _vectors(self, body: Body, record: Record, connection: Connection) -> bytes:
        options = self.options
        if not options.embeddings:
            raise not_supported(
                "This server does not support embeddings. Start it with `--embeddings`"
            )
        texts = embeddings.texts_of(body)
        steering = self.faults.steering(prompt.last_text(body), "generate")
        record.tag = steering.tag
        _refuse_if_asked(steering)
        record.prompt_tokens = embeddings.count(texts, options.batch)
        if not await self.slots.enter(Task(connection, record)):
            self.records.end(record, "client_closed")
            return b""
        record.outcome, record.slot_at = "running", time.time()
        try:
            await connection.pause(steering.headers_ms / 1000.0)
        finally:
            self.slots.leave(record, Prompt())
        _die_if_asked(steering)
        if connection.gone:
            self.records.end(record, "client_closed")
            return b""
        record.processed_prompt_tokens = record.prompt_tokens
        self.records.end(record, "finished")
        if steering.afterwards:
            connection.misbehave(steering.afterwards, steering.afterwards_ms / 1000.0)
        answered = embeddings.answer(body, texts, record.prompt_tokens, options.alias)
        return reply(200, told(orjson.dumps(answered), steering.lie))

    async def _generate(self, request: Request, connection: Connection) -> None:
        body = prompt.parse(request.body)
        record = Record(request.path, request.headers, body, len(request.body))
        record.stream = bool(body.get("stream"))
        self.records.add(record)
        try:
            task, generation = self._prepare(body, record, connection)
        except BadRequest:
            self.records.end(record, "rejected")
            raise
        if not await self.slots.enter(task):
            self.records.end(record, "client_closed")
            return
        record.outcome, record.slot_at = "running", time.time()
        outcome = "client_closed"
        try:
            outcome = await generation.run(task.cached)
        finally:
            self.slots.leave(record, generation.processed(task.prompt))
            self.records.end(record, outcome)

    def _prepare(
        self, body: Body, record: Record, connection: Connection
    ) -> tuple[Task, Generation]:
        options = self.options
        steering = self.faults.steering(prompt.last_text(body), "generate")
        record.tag, record.owner = steering.tag, steering.owner
        _refuse_if_asked(steering)
        chunks: ChatChunks | TextChunks
        if record.path == CHAT:
            checks.check_chat(body)
            asked = prompt.of_chat(body)
            chunks = ChatChunks(options.alias)
        else:
            if not isinstance(body.get("prompt"), str):
                raise BadRequest('"prompt" must be a string')
            asked = prompt.of_text(body["prompt"])
            chunks = TextChunks(options.alias)
        record.prompt_tokens = asked.tokens
        checks.check_sampling(body)
        limit = checks.max_tokens_of(body, options.slots)
        if record.prompt_tokens >= options.ctx:
            raise too_long(record.prompt_tokens, options.ctx)
        room = options.ctx - record.prompt_tokens
        most = min(room, limit) if limit is not None else room
        planned = answer(body, steering, most, options.answer_tokens, self.scripts.step(body))
        named = body.get("id_slot", -1)
        reuses = body.get("cache_prompt", True) is not False
        task = Task(connection, record, asked, named if named >= 0 else None, reuses)
        return task, Generation(
            connection, record, body, planned, steering, options.pace, chunks, options.alias
        )

    def _start_refusing(self, seconds: float) -> None:
        self._refusing = asyncio.create_task(self._refuse(seconds))

    async def _refuse(self, seconds: float) -> None:
        """Refuse connections for a while: nothing listens, and idle connections are closed."""
        port = self.port
        if self._listener is not None:
            self._listener.close()
        await asyncio.sleep(0.01)  # let the answer to the control request go out first
        for connection in list(self._connections):
            if connection.is_idle:
                connection.close()
        await asyncio.sleep(seconds)
        with contextlib.suppress(OSError):
            await self.listen(port)


def _die_if_asked(steering: Steering) -> None:
    if steering.die:
        os._exit(1)


def _refuse_if_asked(steering: Steering) -> None:
    if steering.status is not None:
        kind = "unavailable_error" if steering.status == 503 else "server_error"
        raise BadRequest("simulated refusal", kind, steering.status)
