"""A low-level client of /v1, and a raw socket that can disconnect at any time."""

import http.client
import io
import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

CHAT = "/v1/chat/completions"


def sim(directives: str = "", text: str = "hello") -> list[Json]:
    """Return messages whose directives steer the simulator."""
    return [{"role": "user", "content": f"{text} [[sim {directives}]]" if directives else text}]


@dataclass(frozen=True)
class Answer:
    """One complete response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Json:
        """The error object, after a check of its shape."""
        error: Json = self.json["error"]
        assert set(self.json) == {"error"}
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"] and isinstance(error["message"], str)
        assert error["type"] and isinstance(error["type"], str)
        assert isinstance(error["param"], str | None)
        assert isinstance(error["code"], str | None)
        assert self.headers["x-request-id"].startswith("req_")
        return error

    @property
    def parts(self) -> list[str]:
        """The events and comments of a stream that ends with a complete event."""
        text = self.body.decode()
        assert text.endswith("\n\n")
        return text.removesuffix("\n\n").split("\n\n")

    @property
    def events(self) -> list[Json]:
        """The parsed events of a stream, which must end with [DONE]."""
        data = [part.removeprefix("data: ") for part in self.parts if not part.startswith(":")]
        assert data.pop() == "[DONE]"
        return [json.loads(text) for text in data]

    def text(self, name: str = "content") -> str:
        """Join all deltas of one kind."""
        choices = [event["choices"][0] for event in self.events if event["choices"]]
        return "".join(choice["delta"].get(name) or "" for choice in choices)


class Client:
    """A client of /v1 with a key; each request has its own connection."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request; a bytes body unchanged, any other as JSON."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            sent = {"Authorization": f"Bearer {self.key}", **(headers or {})}
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def chat(self, **body: Any) -> Answer:
        """Send a chat completion; fields not given stay out of the body."""
        return self.call("POST", CHAT, {"messages": sim(), **body})

    def stream(self, **body: Any) -> Answer:
        """Send a streamed chat completion and read it to its end."""
        return self.chat(stream=True, **body)

    def open(self, path: str = CHAT, **body: Any) -> "OpenStream":
        """Start a streamed request, by default a chat completion, and leave it running."""
        data = json.dumps({"messages": sim(), "stream": True, **body}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key}\r\n"
        return self.raw(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    def raw(self, data: bytes) -> "OpenStream":
        """Send raw bytes on a new connection."""
        return OpenStream(self.url, data)


class OpenStream:
    """A request on a raw socket."""

    def __init__(self, url: str, data: bytes) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=20)
        self.socket.sendall(data)
        self.received = b""

    def __enter__(self) -> "OpenStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_until(self, mark: bytes) -> "OpenStream":
        """Read until `mark` arrives; fail if the response ends before."""
        while mark not in self.received:
            data = self.socket.recv(65536)
            assert data, self.received[-500:]
            self.received += data
        return self

    def read_bytes(self, count: int) -> "OpenStream":
        """Read until `count` bytes have arrived or the response has ended."""
        while len(self.received) < count and (data := self.socket.recv(65536)):
            self.received += data
        return self

    def read_to_end(self) -> bytes:
        """Read until the server closes the connection."""
        while data := self.socket.recv(65536):
            self.received += data
        return self.received

    def answer(self) -> Answer:
        """Parse the response to a request sent with `Connection: close` or cut off."""
        response = http.client.HTTPResponse(_Replay(self.read_to_end()))  # type: ignore[arg-type]
        response.begin()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())

    def close(self) -> None:
        self.socket.close()


class _Replay:
    """Present bytes already read as a socket for `HTTPResponse`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> Any:
        return io.BytesIO(self._data)
