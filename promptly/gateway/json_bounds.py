"""Bounds of JSON bodies, checked in their bytes: nothing is built from a body beyond them.

Objects in memory take many times the bytes that describe them: `{}` and a comma become 72. So the
number of values is bounded, and with it the memory and the time that decoding takes.
"""

import re
from collections.abc import Iterator

from promptly.errors import BodyTooLarge, InvalidRequest

Body = bytes | bytearray

# The scans take pieces of this size, so that they never keep the GIL for long.
_PIECE_BYTES = 64 * 1024
_NOT_STARTS = bytes(set(range(256)) - set(b"[{,:"))
_NOT_STARTS_OR_QUOTES = bytes(set(range(256)) - set(b'"[{,:'))
# In a piece without escapes and other characters; the last string may go on in the next piece.
_STRING = re.compile(rb'"[^"]*"?')

# Python's strings take one, two or four bytes per character, by their highest character. Each has
# the bytes that do not start such a character in UTF-8, and its escapes in JSON.
_WIDTHS = (
    (4, bytes(range(0xF0)), re.compile(rb"\\u[dD][89abAB]")),
    (2, bytes(range(0xC4)), re.compile(rb"\\u(?!00)")),
)
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_ESCAPE_BYTES = 6


def check_bounds(body: Body, max_values: int, max_text_bytes: int) -> None:
    """Check the number of values, and the size of the body as text.

    Names count as values, and empty arrays and objects twice. Raises InvalidRequest or
    BodyTooLarge. What is not JSON passes, for the decoder to refuse.
    """
    # First an upper bound, since text may contain these characters too: the scan takes longer.
    if not _has_fewer_starts(body, max_values):
        _check_values(body, max_values)
    if len(body) * 4 > max_text_bytes:
        _check_text(body, max_text_bytes)


def _has_fewer_starts(body: Body, number: int) -> bool:
    """Return whether there are fewer than `number` starts of values, those in text included."""
    # As if all the bytes that are not scanned yet were some.
    most = len(body)
    for start in range(0, len(body), _PIECE_BYTES):
        if most < number:
            return True
        piece = body[start : start + _PIECE_BYTES]
        most -= len(piece) - len(piece.translate(None, _NOT_STARTS))
    return most < number


def _check_values(body: Body, max_values: int) -> None:
    values = 1
    for piece in _starts(body):
        values += len(piece)
        if values > max_values:
            raise InvalidRequest(f"The body has more than {max_values} JSON values.")


def _starts(body: Body) -> Iterator[Body]:
    """Yield the opening brackets, commas and colons outside strings, piece by piece.

    At most one value or name follows each of them.
    """
    start, in_string = 0, False
    while start < len(body):
        piece = body[start : start + _PIECE_BYTES]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            # Do not cut an escape in two.
            piece = body[start : start + _PIECE_BYTES + 1]
        start += len(piece)
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        piece = piece.translate(None, _NOT_STARTS_OR_QUOTES)
        if in_string:
            piece = b'"' + piece
        in_string = piece.count(b'"') % 2 == 1
        yield _STRING.sub(b"", piece)


def _check_text(body: Body, max_text_bytes: int) -> None:
    width = _width(body)
    characters = len(body.translate(None, _CONTINUATIONS))
    if characters * width > max_text_bytes:
        first = "U+FFFF" if width == 4 else "U+00FF"
        raise BodyTooLarge(
            f"A body with characters beyond {first} may have at most "
            f"{max_text_bytes // width} characters."
        )


def _width(body: Body) -> int:
    """Return how many bytes per character a string with all of the body's characters takes."""
    for width, other_bytes, escape in _WIDTHS:
        if body.translate(None, other_bytes) or _contains(body, escape):
            return width
    return 1


def _contains(body: Body, escape: re.Pattern[bytes]) -> bool:
    return any(
        escape.search(body, start, start + _PIECE_BYTES + _ESCAPE_BYTES)
        for start in range(0, len(body), _PIECE_BYTES)
    )
