"""Answers of the API, before the headers that all of them have."""

from collections.abc import Iterable
from typing import NamedTuple

Headers = Iterable[tuple[str, str]]


class Answer(NamedTuple):
    """A status, headers and a body; the server calls the body's `close`, if it has one."""

    status: int
    headers: Headers
    body: Iterable[bytes]


def as_json(body: bytes, headers: Headers = (), status: int = 200) -> Answer:
    """Return an answer with a body of JSON."""
    described = (("content-type", "application/json"), ("content-length", str(len(body))))
    return Answer(status, (*described, *headers), (body,))
