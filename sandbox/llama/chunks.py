"""The events of a stream; the parts common to all are rendered once per request."""

import secrets
import string
import time

import orjson

FINGERPRINT = "b1-0c1e570"
DONE = b"data: [DONE]\n\n"
PING = b":\n\n"

_ALPHABET = string.ascii_letters + string.digits


def new_id() -> str:
    """Return an id in the real server's format."""
    return "chatcmpl-" + "".join(secrets.choice(_ALPHABET) for _ in range(32))


def rate(count: int, milliseconds: float) -> tuple[float, float]:
    """Return milliseconds per token and tokens per second."""
    if count <= 0 or milliseconds <= 0:
        return 0.0, 0.0
    return milliseconds / count, 1000.0 * count / milliseconds


class Clock:
    """Times and counts of one generation, as reported in ``timings``."""

    def __init__(self, prompt_tokens: int, cached_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = cached_tokens
        self._prompt_started = time.perf_counter()
        self._predict_started = self._prompt_started
        self._head = b""

    def prompt_ms(self) -> float:
        """Return the time spent on the prompt so far, in milliseconds."""
        return (time.perf_counter() - self._prompt_started) * 1000.0

    def during_prompt(self, processed: int) -> bytes:
        """Return the timings of a progress event."""
        # The real server's first event reports no time.
        milliseconds = self.prompt_ms() if processed > self.cached_tokens else 0.0
        return self._prompt_part(processed - self.cached_tokens, milliseconds) + (
            b'0,"predicted_ms":0.0,"predicted_per_token_ms":0.0,"predicted_per_second":0.0}'
        )

    def prompt_is_done(self) -> None:
        """Start timing the answer."""
        self._head = self._prompt_part(self.prompt_tokens - self.cached_tokens, self.prompt_ms())
        self._predict_started = time.perf_counter()

    def at_token(self, count: int) -> bytes:
        """Return the timings after ``count`` generated tokens."""
        if count <= 1:
            return self._head + (
                b'%d,"predicted_ms":0.001,"predicted_per_token_ms":0.0,"predicted_per_second":0.0}'
                % count
            )
        elapsed_ms = (time.perf_counter() - self._predict_started) * 1000.0
        return self._head + (
            b'%d,"predicted_ms":%.3f,"predicted_per_token_ms":%.6f,"predicted_per_second":%.6f}'
            % (count, elapsed_ms, *rate(count - 1, elapsed_ms))
        )

    def _prompt_part(self, processed: int, milliseconds: float) -> bytes:
        per_token, per_second = rate(processed, milliseconds)
        return (
            b'{"cache_n":%d,"prompt_n":%d,"prompt_ms":%.3f,"prompt_per_token_ms":%.6f,'
            b'"prompt_per_second":%.6f,"predicted_n":'
            % (self.cached_tokens, processed, milliseconds, per_token, per_second)
        )


class ChatChunks:
    """Events of ``/v1/chat/completions``."""

    role = b'{"role":"assistant","content":null}'

    def __init__(self, model: str) -> None:
        self.id = new_id()
        self.created = int(time.time())
        tail = {
            "created": self.created,
            "id": self.id,
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "object": "chat.completion.chunk",
        }
        self._tail = orjson.dumps(tail)[1:-1]
        self._open = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":'
        self._close = b"}]," + self._tail
        self._close_timed = self._close + b',"timings":'

    def delta(self, rendered: bytes, timings: bytes = b"", logprobs: bytes = b"") -> bytes:
        """Return the event of one delta."""
        if logprobs:
            rendered = rendered + b',"logprobs":' + logprobs
        if timings:
            return b"%b%b%b%b}\n\n" % (self._open, rendered, self._close_timed, timings)
        return b"%b%b%b}\n\n" % (self._open, rendered, self._close)

    def progress(self, progress: bytes, timings: bytes) -> bytes:
        """Return the event that reports the prompt's progress."""
        timed = b',"timings":' + timings if timings else b""
        return b"%b%b%b%b,%b}\n\n" % (self._open, self.role, self._close, timed, progress)

    def last(self, reason: str, usage: bytes, timings: bytes, verbose: bytes = b"") -> bytes:
        """Return the closing events: the finish reason, the usage if given, and DONE."""
        finish = b'data: {"choices":[{"finish_reason":"%b","index":0,"delta":{}}],%b' % (
            reason.encode(),
            self._tail,
        )
        if not usage:
            return b'%b,"timings":%b%b}\n\n%b' % (finish, timings, verbose, DONE)
        return b'%b%b}\n\ndata: {"choices":[],%b,"usage":%b,"timings":%b}\n\n%b' % (
            finish,
            verbose,
            self._tail,
            usage,
            timings,
            DONE,
        )


class TextChunks:
    """Events of ``/v1/completions``: other field names, and usage always in the last one."""

    role = b""

    def __init__(self, model: str) -> None:
        self.id = new_id()
        self.created = int(time.time())
        self._head = {
            "created": self.created,
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "object": "text_completion",
        }
        self._before = orjson.dumps(self._head)[1:-1]
        self._after = b'"id":"%b"' % self.id.encode()

    def delta(self, rendered: bytes, timings: bytes = b"", logprobs: bytes = b"") -> bytes:
        """Return the event of one piece of text."""
        text = orjson.loads(rendered or b"{}").get("content", "")
        timed = b',"timings":' + timings if timings else b""
        return b"data: {%b,%b,%b%b}\n\n" % (
            self._choice(text, b"null", logprobs or b"null"),
            self._before,
            self._after,
            timed,
        )

    def progress(self, progress: bytes, timings: bytes) -> bytes:
        """Return the event that reports the prompt's progress."""
        timed = b',"timings":' + timings if timings else b""
        return b"data: {%b,%b,%b%b,%b}\n\n" % (
            self._choice("", b"null", b"null"),
            self._before,
            self._after,
            timed,
            progress,
        )

    def last(self, reason: str, usage: bytes, timings: bytes, _verbose: bytes = b"") -> bytes:
        """Return the closing event and DONE; the gateway never asks for more here."""
        return b'data: {%b,%b,"usage":%b,%b,"timings":%b}\n\n%b' % (
            self._choice("", b'"%b"' % reason.encode(), b"null"),
            self._before,
            usage,
            self._after,
            timings,
            DONE,
        )

    def _choice(self, text: str, reason: bytes, logprobs: bytes) -> bytes:
        return b'"choices":[{"text":%b,"index":0,"logprobs":%b,"finish_reason":%b}]' % (
            orjson.dumps(text),
            logprobs,
            reason,
        )


def usage_of(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> bytes:
    """Return a usage object."""
    return (
        b'{"completion_tokens":%d,"prompt_tokens":%d,"total_tokens":%d,'
        b'"prompt_tokens_details":{"cached_tokens":%d}}'
        % (completion_tokens, prompt_tokens, prompt_tokens + completion_tokens, cached_tokens)
    )


def progress_of(total: int, cached: int, processed: int, milliseconds: float) -> bytes:
    """Return the ``prompt_progress`` member of a progress event."""
    return b'"prompt_progress":{"total":%d,"cache":%d,"processed":%d,"time_ms":%d}' % (
        total,
        cached,
        processed,
        int(milliseconds),
    )
