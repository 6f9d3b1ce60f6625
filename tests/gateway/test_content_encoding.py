import gzip
import json
import zlib

import pytest
import zstandard

from promptly.errors import BodyTooLarge, InvalidRequest, UnsupportedContentEncoding
from promptly.gateway.content_encoding import coding_of, decompress

MIB = 1024 * 1024
BODY = json.dumps({"messages": ["hello"] * 100_000}).encode()


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(data) + encoder.flush()


ENCODED = {
    "gzip": ("gzip", gzip.compress(BODY)),
    "x-gzip": ("x-gzip", gzip.compress(BODY)),
    "gzip in members": ("gzip", gzip.compress(BODY[:1000]) + gzip.compress(BODY[1000:])),
    "deflate": ("deflate", zlib.compress(BODY)),
    "deflate without header": ("deflate", raw_deflate(BODY)),
    "zstd": ("zstd", zstandard.compress(BODY)),
    "zstd in frames": ("zstd", zstandard.compress(BODY[:1000]) + zstandard.compress(BODY[1000:])),
}


@pytest.mark.parametrize("name", ENCODED)
def test_decoded(name: str) -> None:
    coding, data = ENCODED[name]
    assert decompress(data, coding, len(BODY)) == BODY


@pytest.mark.parametrize("name", ENCODED)
def test_a_body_above_the_bound(name: str) -> None:
    coding, data = ENCODED[name]
    with pytest.raises(BodyTooLarge, match="decompressed"):
        decompress(data, coding, len(BODY) - 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_noise_is_refused(coding: str) -> None:
    for data in (b"no such data", b"\x78\x9c" + b"\xff" * 100):
        with pytest.raises(InvalidRequest, match=coding):
            decompress(data, coding, MIB)


@pytest.mark.parametrize("name", ["gzip", "deflate", "deflate without header"])
def test_data_that_ends_early_is_refused(name: str) -> None:
    coding, data = ENCODED[name]
    with pytest.raises(InvalidRequest, match=coding):
        decompress(data[:-5], coding, MIB)


def test_a_window_larger_than_the_bound_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = encoder.compress(BODY) + encoder.flush()
    with pytest.raises(InvalidRequest, match="zstd"):
        decompress(data, "zstd", MIB)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb_is_decoded_no_further_than_the_bound(coding: str) -> None:
    zeros = bytes(256 * MIB)
    bomb = gzip.compress(zeros, 1) if coding == "gzip" else zstandard.compress(zeros)
    del zeros
    with pytest.raises(BodyTooLarge):
        decompress(bomb, coding, MIB)


@pytest.mark.parametrize("header", ["", "identity", " Identity "])
def test_no_coding(header: str) -> None:
    assert coding_of(header) is None


@pytest.mark.parametrize("header", ["gzip", "GZIP", "x-gzip", "deflate", "zstd"])
def test_known_codings(header: str) -> None:
    assert coding_of(header) == header.lower()


@pytest.mark.parametrize("header", ["br", "compress", "gzip, gzip", "identity, gzip", "gzip,"])
def test_other_codings(header: str) -> None:
    with pytest.raises(UnsupportedContentEncoding):
        coding_of(header)
