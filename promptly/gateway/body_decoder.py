"""Decodes bodies: decompresses them, checks their bounds, and has them parsed.

Small ones at once. Large ones would hold up every stream of the process: they are decoded in a
native thread, one at a time, so that their memory does not add up.
"""

from collections.abc import Callable
from typing import TypeVar

from promptly.errors import InvalidRequest
from promptly.gateway import content_encoding
from promptly.gateway.json_body import without_lone_surrogates
from promptly.gateway.json_bounds import Body, check_bounds
from promptly.gateway.turns import SmallestFirst
from promptly.runtime import native_threads

T = TypeVar("T")

# Decoding this takes about a millisecond; changing to a thread and back takes longer for less.
INLINE_BYTES = 64 * 1024
# A body of 16 MiB takes less than a second; while smaller ones keep coming, it is not next.
TURN_SECONDS = 30

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BodyDecoder:
    """Decodes the bodies of one process."""

    def __init__(self, max_body_bytes: int, max_values: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._max_text_bytes = max_body_bytes * 5 // 4
        self._max_values = max_values
        self._turns = SmallestFirst(TURN_SECONDS)

    def decode(self, body: Body, coding: str | None, parse: Callable[[Body], T]) -> tuple[T, int]:
        """Return what `parse` makes of the body, and the body's size once decompressed.

        U+FFFD takes the place of halves of surrogate pairs, in names too, before `parse` fails.
        Raises what `parse` raises, InvalidRequest or BodyTooLarge for a broken or hostile body, and
        ServiceUnavailable if a large one waits for too long.
        """
        if coding is None and len(body) <= INLINE_BYTES:
            return self._decode(body, coding, parse)
        # A compressed body may become as large as any: as a small one it would go before others.
        with self._turns.turn(len(body) if coding is None else self._max_body_bytes):
            return native_threads.call(self._decode, body, coding, parse)

    def _decode(self, body: Body, coding: str | None, parse: Callable[[Body], T]) -> tuple[T, int]:
        if coding is not None:
            body = content_encoding.decompress(body, coding, self._max_body_bytes)
        if body.startswith(BYTE_ORDER_MARK):
            body = body[len(BYTE_ORDER_MARK) :]
        check_bounds(body, self._max_values, self._max_text_bytes)
        try:
            return parse(body), len(body)
        except InvalidRequest:
            # Halves of surrogate pairs are in no ordinary body, and in all later turns of a
            # conversation that has one: look for them only when there is an error.
            replaced = without_lone_surrogates(body)
            if replaced is None:
                raise
        # The exception, and with it what was decoded, is gone by now.
        return parse(replaced), len(replaced)
