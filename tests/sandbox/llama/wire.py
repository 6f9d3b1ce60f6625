"""Low-level client for a llama-server, real or simulated."""

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from openai.types.chat import ChatCompletionFunctionToolParam

Json = dict[str, Any]

CHAT = "/v1/chat/completions"
WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
        },
    },
}


def hello(text: str = "hello world") -> list[Json]:
    return [{"role": "user", "content": text}]


def sim(directives: str, text: str = "hello") -> list[Json]:
    return hello(f"{text} [[sim {directives}]]")


def call(
    url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Send one request on its own connection; return status, headers (lower-case names), body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read()
    finally:
        connection.close()


def post(url: str, path: str = CHAT, **body: Any) -> tuple[int, Json]:
    status, _, data = call(url, "POST", path, body)
    return status, json.loads(data)


def is_kept(url: str, path: str = CHAT, **body: Any) -> bool:
    """Return whether the connection of a request can be used for another one."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request("POST", path, json.dumps(body).encode())
        response = connection.getresponse()
        assert response.status == 200
        assert response.getheader("keep-alive") == "timeout=5, max=100"
        response.read()
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


def stream(url: str, path: str = CHAT, **body: Any) -> list[Any]:
    """Return the parsed events of one whole stream; "[DONE]" stays a string."""
    status, headers, data = call(url, "POST", path, {"stream": True, **body})
    assert status == 200
    assert headers["content-type"] == "text/event-stream"
    return events(data)


def events(data: bytes) -> list[Any]:
    parts = [part for part in data.decode().split("\n\n") if part]
    assert all(part.startswith(("data: ", ":")) for part in parts)
    texts = [part.removeprefix("data: ") for part in parts if not part.startswith(":")]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def content(stream_events: list[Any], name: str = "content") -> str:
    choices = [event["choices"] for event in stream_events if "choices" in event]
    return "".join(choice[0]["delta"].get(name) or "" for choice in choices if choice)


class RawStream:
    """A streamed request on a bare socket, to see chunk framing and to disconnect at will."""

    def __init__(self, url: str, **body: Any) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=20)
        data = json.dumps({"stream": True, **body}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
        self.socket.sendall(head.encode() + data)
        self.received = b""

    def read_until(self, mark: bytes) -> None:
        while mark not in self.received:
            data = self.socket.recv(65536)
            assert data, self.received[-500:]
            self.received += data

    def read_to_end(self) -> None:
        while data := self.socket.recv(65536):
            self.received += data

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def last_count(self) -> int:
        """Return the last ``predicted_n`` in a complete event, or 0."""
        whole = self.received[: self.received.rfind(b"\n\n")]
        position = whole.rfind(b'"predicted_n":')
        return int(whole[position + 14 :].split(b",")[0]) if position >= 0 else 0
