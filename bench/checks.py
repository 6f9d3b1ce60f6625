"""Parses an HTTP answer as it arrives and reports what, if anything, is wrong with it."""

import json
import re
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)
# The empty one of the first delta is none.
_DELTA = re.compile(rb'"content":\s?"(?!")')
_STAMP = re.compile(rb'"content":\s?"(\d{16})"')
_FULL_PARSE_EVERY = 16


class Answer:
    """One answer as it arrives."""

    def __init__(self) -> None:
        self.raw = bytearray()
        self.status = 0
        self.closes = False
        self.body_at = 0
        self._length = -1
        self._chunked = False
        self._scanned = 0

    def feed(self, data: bytes) -> bool:
        """Add the bytes of one ``recv``; return whether the answer is complete."""
        raw = self.raw
        raw += data
        if not self.body_at:
            end = raw.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.body_at = self._scanned = end + 4
            self.status = int(raw[9:12])
            self._chunked = _CHUNKED.search(raw, 0, end) is not None
            self.closes = _CLOSE.search(raw, 0, end + 2) is not None
            length = _LENGTH.search(raw, 0, end)
            self._length = int(length.group(1)) if length else -1
        if self._chunked:
            return raw.endswith(b"\r\n0\r\n\r\n")
        return self._length >= 0 and len(raw) >= self.body_at + self._length

    def ends_at_eof(self) -> bool:
        """Return whether the end of the connection marks the end of this answer."""
        return self.body_at > 0 and not self._chunked and self._length < 0

    def stamps(self) -> list[int]:
        """Return the due times of the chunks since the last call, in microseconds."""
        found = []
        for match in _STAMP.finditer(self.raw, self._scanned):
            found.append(int(match.group(1)))
            self._scanned = match.end()
        return found

    def body(self) -> bytes:
        """Return the body without its transfer encoding."""
        if not self._chunked:
            return bytes(self.raw[self.body_at :])
        pieces: list[bytes] = []
        raw, at = bytes(self.raw), self.body_at
        while True:
            line_end = raw.index(b"\r\n", at)
            size = int(raw[at:line_end].partition(b";")[0], 16)
            if not size:
                return b"".join(pieces)
            pieces.append(raw[line_end + 2 : line_end + 2 + size])
            at = line_end + 4 + size


@dataclass
class Expectation:
    """The expected form of every answer in a run."""

    status: int
    streamed: bool = False
    tokens: int = 16
    bare_proxy: bool = False
    seen: int = 0

    def wrong(self, answer: Answer) -> str | None:
        """Describe the first thing wrong with an answer, or return None."""
        if answer.status != self.status:
            start = bytes(answer.raw[answer.body_at :][:200]).decode("utf-8", "replace")
            return f"status {answer.status}: {start}"
        try:
            body = answer.body()
            if self.streamed:
                self.seen += 1
                return self._wrong_stream(body)
            return self._wrong_json(json.loads(body))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return f"malformed answer: {error!r}"

    def _wrong_json(self, value: dict[str, object]) -> str | None:
        if self.status == 401:
            error = value["error"]
            assert isinstance(error, dict)
            return None if error["code"] == "invalid_api_key" else f"code {error['code']}"
        usage, choices = value["usage"], value["choices"]
        assert isinstance(usage, dict)
        assert isinstance(choices, list)
        if usage["completion_tokens"] != self.tokens:
            return f"{usage['completion_tokens']} completion tokens instead of {self.tokens}"
        if choices[0]["message"]["content"] != " token" * self.tokens:
            return "content differs from what upstream sent"
        return None if self.bare_proxy or "timings" not in value else "timings reached the client"

    def _wrong_stream(self, body: bytes) -> str | None:
        deltas = len(_DELTA.findall(body))
        if deltas != self.tokens:
            return f"{deltas} content deltas instead of {self.tokens}"
        if not body.endswith(b"data: [DONE]\n\n"):
            return "no [DONE] at the end"
        if b'"role":"assistant"' not in body and b'"role": "assistant"' not in body:
            return "no role"
        if not self.bare_proxy:
            for name in (b'"timings"', b'"prompt_progress"', b'"usage"'):
                if name in body and not (name == b'"usage"' and b'"usage":null' in body):
                    return f"{name.decode()} reached the client"
        if self.seen % _FULL_PARSE_EVERY == 1:
            return self._wrong_events(body)
        return None

    def _wrong_events(self, body: bytes) -> str | None:
        """Parse every event. Called for one stream in sixteen, because it is slow."""
        events = [line[6:] for line in body.split(b"\n\n") if line.startswith(b"data: ")]
        parsed = [json.loads(event) for event in events[:-1]]
        choices = [event["choices"][0] for event in parsed if event["choices"]]
        text = [choice["delta"].get("content") for choice in choices]
        if sum(1 for piece in text if piece) != self.tokens:
            return "content is missing from some delta"
        reasons = [choice.get("finish_reason") for choice in choices]
        if list(filter(None, reasons)) != ["length"]:
            return "not exactly one finish_reason 'length'"
        return None
