"""Bounds of JSON bodies, checked in their bytes: nothing is built from a body beyond them.

Objects in memory take many times the bytes that describe them: `{}` and a comma become 72. So the
number of values is bounded, and with it the memory and the time that decoding takes.
"""

import re
from collections.abc import Iterator
from itertools import accumulate

from promptly.errors import BodyTooLarge, InvalidRequest

Body = bytes | bytearray

MAX_DEPTH = 512

# The exact scans take pieces of this size, so that they never keep the GIL for long.
_PIECE_BYTES = 64 * 1024
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},:'))
# In a piece without escapes and other characters; the last string may go on in the next piece.
_STRING = re.compile(rb'"[^"]*"?')
_STEPS = [{"[": 1, "{": 1, "]": -1, "}": -1}.get(chr(byte), 0) for byte in range(256)]

# Python's strings take one, two or four bytes per character, by their highest character. Each has
# the bytes that do not start such a character in UTF-8, and its escapes in JSON.
_WIDTHS = (
    (4, bytes(range(0xF0)), re.compile(rb"\\u[dD][89abAB]")),
    (2, bytes(range(0xC4)), re.compile(rb"\\u(?!00)")),
)
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_ESCAPE_BYTES = 6


def check_bounds(body: Body, max_values: int, max_text_bytes: int) -> None:
    """Check the number of values, the levels, and the size as text.

    Names count as values, and empty arrays and objects twice.

    Raises InvalidRequest or BodyTooLarge. What is not JSON passes, for the decoder to refuse.
    """
    if len(body) <= MAX_DEPTH:
        return
    # Upper bounds, since strings may contain these characters too; the exact numbers take longer.
    openings = body.count(b"[") + body.count(b"{")
    if openings > MAX_DEPTH or (
        len(body) > max_values and 1 + openings + body.count(b",") + body.count(b":") > max_values
    ):
        _check_structure(body, max_values)
    if len(body) * 4 > max_text_bytes:
        _check_text(body, max_text_bytes)


def _check_structure(body: Body, max_values: int) -> None:
    values, depth = 1, 0
    for piece in _structure(body):
        values += len(piece) - piece.count(b"]") - piece.count(b"}")
        if values > max_values:
            raise InvalidRequest(f"The body has more than {max_values} JSON values.")
        brackets = piece.translate(None, b",:")
        depths = list(accumulate(map(_STEPS.__getitem__, brackets), initial=depth))
        if max(depths) > MAX_DEPTH:
            raise InvalidRequest(f"The body is nested too deeply: more than {MAX_DEPTH} levels.")
        depth = depths[-1]


def _structure(body: Body) -> Iterator[Body]:
    """Yield the brackets, commas and colons outside strings, piece by piece.

    Each comma, colon and opening bracket stands for at most one value or name.
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
        piece = piece.translate(None, _NOT_STRUCTURE)
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
