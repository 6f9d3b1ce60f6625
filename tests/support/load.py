"""Requests as a client sees them: one connection each, and a record of everything received."""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

CHAT = "/v1/chat/completions"

_tags = itertools.count(1)


@dataclass
class Reply:
    """One request and its outcome; times are from `time.monotonic`.

    `end` is "done" (a complete answer), "error" (an error object with `code`), "cut" (the
    connection broke) or "refused" (no connection was made).
    """

    tag: str
    host: str = ""
    started_at: float = 0.0
    answered_at: float = 0.0
    ended_at: float = 0.0
    status: int = 0
    request_id: str = ""
    end: str = "refused"
    code: str = ""
    chunks: int = 0
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Duration from start to end, in seconds."""
        return self.ended_at - self.started_at


def messages(tag: str, directives: str) -> list[dict[str, str]]:
    """Return messages that carry directives for the simulator and a tag."""
    return [{"role": "user", "content": f"hello [[sim tag={tag} {directives}]]"}]


def new_tag() -> str:
    """Return a unique tag; all tags have the same length, so that prompts do too."""
    return f"t{next(_tags):06d}"


def ask(
    port: int,
    key: str,
    directives: str = "",
    *,
    host: str = "127.0.0.1",
    stream: bool = True,
    reply: Reply | None = None,
    timeout_seconds: float = 90.0,
    **body: Any,
) -> Reply:
    """Request one chat completion and read it to its end; failures are recorded in the reply.

    `reply` is filled while the answer arrives.
    """
    reply = reply or Reply(new_tag())
    reply.host = host
    reply.started_at = time.monotonic()
    body = {"messages": messages(reply.tag, directives), "stream": stream, **body}
    if stream:
        body["stream_options"] = {"include_usage": True}
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    try:
        connection.connect()
        reply.end = "cut"
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", CHAT, json.dumps(body).encode(), headers)
        response = connection.getresponse()
        reply.answered_at = time.monotonic()
        reply.status = response.status
        reply.request_id = response.getheader("x-request-id", "")
        if stream and response.status == 200:
            assert response.getheader("x-promptly-request-id") == reply.request_id
            _read_events(response, reply)
        else:
            _read_object(json.loads(response.read()), reply)
    except (OSError, http.client.HTTPException, ValueError):
        pass
    finally:
        connection.close()
        reply.ended_at = time.monotonic()
    return reply


def _read_events(response: http.client.HTTPResponse, reply: Reply) -> None:
    while line := response.readline():
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            reply.end = "done"
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            reply.end, reply.code = "error", str(chunk["error"]["code"])
            continue
        reply.usage = chunk.get("usage") or reply.usage
        for choice in chunk["choices"]:
            reply.chunks += 1
            reply.finish_reason = choice["finish_reason"] or reply.finish_reason


def _read_object(answer: dict[str, Any], reply: Reply) -> None:
    if "error" in answer:
        reply.end, reply.code = "error", str(answer["error"]["code"])
        return
    reply.usage = answer["usage"]
    reply.finish_reason = answer["choices"][0]["finish_reason"]
    reply.end = "done"


class Load:
    """Requests in threads; `replies` holds all of them in the order sent."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._futures: list[Future[object]] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.replies: list[Reply] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def start(self, port: int, key: str, directives: str = "", **options: Any) -> Reply:
        """Send one request; return its reply, which is filled while the request runs."""
        reply = self._new()
        self._submit(lambda: ask(port, key, directives, reply=reply, **options))
        return reply

    def repeat(self, port: int, key: str, directives: str = "", **options: Any) -> None:
        """Start a client that sends one request after another until `finish`."""

        def run() -> None:
            while not self._over.is_set():
                reply = ask(port, key, directives, reply=self._new(), **options)
                if reply.end != "done":
                    self._over.wait(0.1)

        self._submit(run)

    def finish(self) -> list[Reply]:
        """Send no more requests, wait for running ones, and return all replies."""
        self._over.set()
        for future in self._futures:
            future.result()
        return self.replies

    def sent(self, end: str) -> list[Reply]:
        """Return the replies so far that ended this way."""
        return [reply for reply in list(self.replies) if reply.ended_at and reply.end == end]

    def _new(self) -> Reply:
        reply = Reply(new_tag())
        with self._lock:
            self.replies.append(reply)
        return reply

    def _submit(self, run: Callable[[], object]) -> None:
        self._futures.append(self._pool.submit(run))
