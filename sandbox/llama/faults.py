"""Steering: how a request or a test makes the simulator behave differently.

A text such as ``[[sim tokens=50 delay_ms=20 tag=abc eof_after=10]]`` anywhere in the last message
steers that one request. The same names, sent as JSON to ``/__sim/faults``, steer every request
or the next ``times`` ones; the request's own directives take precedence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

DIRECTIVE = re.compile(r"\[\[sim\s+([^\]]*)\]\]")


@dataclass(frozen=True, slots=True)
class Steering:
    """How to answer one request. ``..._after`` counts generated tokens."""

    tag: str = ""
    tokens: int | None = None  # length of the answer, including its end-of-sequence token
    delay_ms: float | None = None  # between tokens
    headers_ms: float = 0.0  # between the slot's start and the response headers
    prefill_ms: float | None = None  # for the whole prompt
    progress: int | None = None  # number of steps the prompt takes
    cache: int | None = None  # prompt tokens found in the cache, whatever is in the slot
    owner: str = ""  # whose prompt it is; records show who reuses another's
    think: int | None = None  # reasoning tokens before the answer
    tool: int | None = None  # number of tool calls
    first: str = ""  # "utf8": the answer starts with a character of several tokens
    status: int | None = None  # answer with this status instead
    eof_after: int | None = None  # close the connection mid-stream
    error_after: int | None = None  # an error frame, then the end of the stream
    stall_after: int | None = None  # silence of stall_s seconds, then continue
    stall_s: float = 60.0
    reset_after: int | None = None  # reset the connection (RST)
    split: str = ""  # "utf8", "line" or "random": where to cut every event in two
    lie: str = ""  # what all counts become, by its name in `lies`
    die: int | None = None  # the whole server ends before it answers
    die_after: int | None = None  # the whole server ends mid-stream
    afterwards: str = ""  # after embeddings: how `Connection.misbehave` breaks off
    afterwards_ms: float = 0.0
    on: str = "generate"  # routes that faults apply to: "generate", "count" or "any"

    def changed(self, values: Mapping[str, Any]) -> "Steering":
        """Return a copy with these values, which may be strings.

        Raises ValueError for an unknown name or a value of the wrong type.
        """
        parsed = {name: _parse(name, value) for name, value in values.items()}
        return replace(self, **parsed)

    @property
    def triggers(self) -> list[int]:
        """Token counts after which a fault is due, ascending."""
        counts = (
            self.eof_after,
            self.error_after,
            self.stall_after,
            self.reset_after,
            self.die_after,
        )
        return sorted(count for count in counts if count is not None)


_TYPES = {field.name: field.type for field in fields(Steering)}
_INTEGERS = (int, int | None)
_FLOATS = (float, float | None)


def _parse(name: str, value: Any) -> Any:
    if name not in _TYPES:
        raise ValueError(f"unknown: {name}")
    if value is None:
        return None
    if _TYPES[name] in _INTEGERS:
        return int(value)
    if _TYPES[name] in _FLOATS:
        return float(value)
    return str(value)


def directives(text: str) -> dict[str, str]:
    """Return the names and values of all directives in a text; a bare name means 1."""
    found: dict[str, str] = {}
    for match in DIRECTIVE.finditer(text):
        for word in match.group(1).split():
            name, _, value = word.partition("=")
            if name in _TYPES:
                found[name] = value or "1"
    return found


class Faults:
    """The steering of every request, until it is used up or cleared."""

    def __init__(self) -> None:
        self.loading = False
        self._base = Steering()
        self._remaining: int | None = None

    def set(self, values: Mapping[str, Any]) -> None:
        """Replace the steering. ``times`` limits it to that many requests.

        Raises ValueError for an unknown name.
        """
        rest = dict(values)
        self.loading = bool(rest.pop("loading", False))
        times = rest.pop("times", None)
        self._base = Steering().changed(rest)
        self._remaining = int(times) if times is not None else None

    def clear(self) -> None:
        self.set({})

    def steering(self, last_message: str, route: str) -> Steering:
        """Return a request's steering and count it; ``route`` is "generate" or "count"."""
        steering = self._base
        if steering.on in (route, "any") and self._remaining != 0:
            if self._remaining is not None:
                self._remaining -= 1
        else:
            steering = Steering()
        if route == "generate" and "[[sim" in last_message:
            steering = steering.changed(directives(last_message))
        return steering
