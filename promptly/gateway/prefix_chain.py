"""Names the beginnings of prompts, so that the scheduler finds the slot that has one cached.

A prompt is marked where others are likely to part from it: after tools and system prompt, after the
first user message, at the end of each later turn, and every PIECE_BYTES of a long text. The next
request of a conversation repeats all of this one, so it has the mark of this one's end, however the
answer in between comes back. The first two marks are kept, the last, and ever fewer before it: a
prompt that shares all but the last n pieces has a mark in common within about n more.

A mark is a hash of all text up to it, and stays in memory with the request. Its link, which goes to
Redis, is a keyed hash of that, seeded with the account.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from promptly.gateway.chat_texts import call_texts, content_texts, role_of
from promptly.gateway.json_bounds import Body
from promptly.secret import Secret

PIECE_BYTES = 4096
# An estimate for English and code; other languages take more tokens for the same bytes.
BYTES_PER_TOKEN = 4
# Shorter beginnings are not worth finding.
MIN_TOKENS = 64
MAX_LINKS = 16

_SYSTEM = ("system", "developer")
_ASSISTANT = "assistant"
# Ends a message; texts may contain it, which costs at most a wrong guess.
_END = "\x1e"


class PrefixLink(NamedTuple):
    """A beginning of a prompt: 16 hexadecimal digits, and its estimated size in tokens."""

    digest: str
    tokens: int


class Mark(NamedTuple):
    """A beginning of a prompt as the hash of its text, unkeyed, and its estimated tokens."""

    hash: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Prefix:
    """The marks of a prompt, shortest first.

    `root` is that of the first user message, if it has one, and `session` the client's name for
    the conversation, from the body, or "".
    """

    marks: tuple[Mark, ...] = ()
    root: Mark | None = None
    session: str = ""


EMPTY = Prefix()


class PrefixChains:
    """Turns marks into links of this installation; accounts have none in common unless `shared`."""

    def __init__(self, pepper: Secret, *, shared: bool = False) -> None:
        self._key = hmac.digest(pepper.reveal().encode(), b"promptly.prefix-chain", "sha256")
        self._shared = shared

    def links(self, prefix: Prefix, account_id: int, session: str = "") -> tuple[PrefixLink, ...]:
        """Return the prompt's links, longest last; each takes about a microsecond.

        A session's name tells apart conversations that begin alike: the link of the first user
        message is followed by one of the same length with the name in it. The name decides nothing
        else, since an agent and its subagents are many conversations of one session. `session` is
        the name in the request's headers; one in its body goes first.
        """
        salt = b"" if self._shared else account_id.to_bytes(16, "big")
        name = (prefix.session or session).encode(errors="replace")
        links = []
        for mark in prefix.marks:
            links.append(PrefixLink(self._digest(mark.hash, salt), mark.tokens))
            if name and mark == prefix.root:
                links.append(PrefixLink(self._digest(mark.hash + name, salt), mark.tokens))
        return tuple(links)

    def _digest(self, data: bytes, salt: bytes) -> str:
        return blake2b(data, key=self._key, salt=salt, digest_size=8).hexdigest()


def of_chat(tools: bytes, messages: Iterable[Any], session: str = "") -> Prefix:
    """Return the prefix of a checked chat; `tools` is JSON.

    Of the assistant's messages only text and calls count: clients and templates drop thoughts.
    """
    parts, ends = _read(tools, messages)
    root = ends[1] if len(ends) > 1 else 0
    marks = _marks(b"".join(parts), ends, {ends[0], root})
    return Prefix(tuple(marks.values()), marks.get(root), session)


def of_text(text: Body) -> Prefix:
    """Return the prefix of a text to complete, as it is or as JSON."""
    return Prefix(tuple(_marks(text, [len(text)], set()).values()))


def _read(tools: bytes, messages: Iterable[Any]) -> tuple[list[bytes], list[int]]:
    """Return the prompt's text, in parts, and the offsets at which a request may have ended.

    The first offset is the end of all that precedes the first user message, perhaps 0; the others
    are those before each answer, and the end.
    """
    parts, size = [tools], len(tools)
    ends: list[int] = []
    previous = _SYSTEM[0]
    for message in messages:
        role = role_of(message)
        if (previous in _SYSTEM and role not in _SYSTEM) or role == _ASSISTANT != previous:
            ends.append(size)
        for text in (role, *content_texts(message), *call_texts(message), _END):
            part = text.encode()
            size += len(part)
            parts.append(part)
        previous = role
    return parts, [*ends, size]


def _marks(text: Body, ends: Iterable[int], fixed: set[int]) -> dict[int, Mark]:
    """Return marks by the offsets of their ends; those at the `fixed` offsets stay."""
    places = _places(ends)
    landmarks = {places[number - 1] for number in _landmarks(len(places))} - fixed
    kept = fixed | set(sorted(landmarks)[-(MAX_LINKS - 1 - len(fixed)) :])
    view = memoryview(text)
    running, start = blake2b(digest_size=16), 0
    marks = {}
    for end in sorted(kept):
        if end >= MIN_TOKENS * BYTES_PER_TOKEN:
            running.update(view[start:end])
            marks[end] = Mark(running.digest(), end // BYTES_PER_TOKEN)
            start = end
    return marks


def _places(ends: Iterable[int]) -> list[int]:
    """Return the ends, and between them the ends of pieces of long texts."""
    found: list[int] = []
    start = 0
    for end in ends:
        found += (*range(start + PIECE_BYTES, end, PIECE_BYTES), end)
        start = end
    return found


def _landmarks(count: int) -> set[int]:
    """Return some of the numbers up to `count`: for each power of two its last two multiples."""
    found = set()
    step = 1
    while step <= count:
        last = count - count % step
        found |= {last, last - step}
        step *= 2
    return found - {0}
