"""Compressed bodies: `Content-Encoding` gzip, deflate or zstd, decoded within a bound.

https://www.rfc-editor.org/rfc/rfc9110.html#name-content-encoding
"""

import zlib
from collections.abc import Callable, Iterator

import zstandard

from promptly.errors import BodyTooLarge, InvalidRequest, UnsupportedContentEncoding

# Decoded at a time: a bomb grows no further beyond the bound.
_PIECE_BYTES = 256 * 1024
# Every decoder must support this much (RFC 8878, 3.1.1.1.2); it is allocated at once.
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024


def coding_of(header: str) -> str | None:
    """Return the coding that a Content-Encoding names, None for identity.

    Raises UnsupportedContentEncoding for others, and for several in a row.
    """
    if not header:
        return None
    coding = header.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in _DECODERS:
        raise UnsupportedContentEncoding
    return coding


def decompress(body: bytes | bytearray, coding: str, max_bytes: int) -> bytearray:
    """Return the decoded body; raises BodyTooLarge beyond `max_bytes`, InvalidRequest if broken."""
    decoded = bytearray()
    try:
        for piece in _DECODERS[coding](body):
            decoded += piece
            if len(decoded) > max_bytes:
                raise BodyTooLarge(f"The decompressed body is larger than {max_bytes} bytes.")
    except (zlib.error, zstandard.ZstdError, EOFError):
        raise InvalidRequest(f"The body is not what its Content-Encoding says: {coding}.") from None
    return decoded


def _gzip(body: bytes | bytearray) -> Iterator[bytes]:
    return _inflated(body, zlib.MAX_WBITS | 16)


def _deflate(body: bytes | bytearray) -> Iterator[bytes]:
    # Some clients send the data without the zlib header that the standard requires.
    has_header = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _inflated(body, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _inflated(body: bytes | bytearray, window_bits: int) -> Iterator[bytes]:
    """Yield the decoded pieces; raises EOFError if the data ends early, zlib.error if it is bad."""
    decoder = zlib.decompressobj(window_bits)
    for start in range(0, len(body), _PIECE_BYTES):
        waiting = bytes(body[start : start + _PIECE_BYTES])
        while waiting:
            if decoder.eof:
                # Another member of a gzip file.
                decoder = zlib.decompressobj(window_bits)
            yield decoder.decompress(waiting, _PIECE_BYTES)
            waiting = decoder.unconsumed_tail or decoder.unused_data
    while not decoder.eof:
        piece = decoder.decompress(b"", _PIECE_BYTES)
        if not piece:
            raise EOFError
        yield piece


def _zstd(body: bytes | bytearray) -> Iterator[bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    with decoder.stream_reader(body, read_across_frames=True) as reader:
        while piece := reader.read(_PIECE_BYTES):
            yield piece


_DECODERS: dict[str, Callable[[bytes | bytearray], Iterator[bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
SUPPORTED = ", ".join(_DECODERS)
