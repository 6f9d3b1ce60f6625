"""Format of API keys: generation, recognition, storage.

`sk-`, 40 random base62 characters (238 bits), 6 base62 characters of the CRC-32 of all before:
a typing error is refused without a query. Only an HMAC-SHA256 under the pepper is stored; a slow
hash protects guessable secrets, and a key cannot be guessed.

Keys of model-gateway stay valid after an import: `sk-` and 43 URL-safe base64 characters, without
a checksum.
"""

import hashlib
import hmac
import re
import secrets
import zlib

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Two digits at a time: every request computes a checksum.
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]
PREFIX_LENGTH = 12
# The pepper version of keys stored as bcrypt's hash, without a pepper (`imported_keys`).
IMPORTED_VERSION = 0

_SHAPE = re.compile(r"sk-[0-9A-Za-z]{46}", re.ASCII)
_IMPORTED_SHAPE = re.compile(r"sk-[0-9A-Za-z_-]{43}", re.ASCII)


def generate() -> str:
    """Return a new key, 49 characters long."""
    body = "sk-" + "".join(secrets.choice(ALPHABET) for _ in range(40))
    return body + checksum(body)


def checksum(body: str) -> str:
    """Return the six base62 characters that end a key whose first 43 characters are `body`."""
    high, low = divmod(zlib.crc32(body.encode()), len(_PAIRS))
    high, middle = divmod(high, len(_PAIRS))
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def is_well_formed(key: str) -> bool:
    """Whether shape and checksum are those of a key; does not check that the key is valid."""
    return _SHAPE.fullmatch(key) is not None and checksum(key[:43]) == key[43:]


def is_imported(key: str) -> bool:
    """Whether the shape is that of model-gateway's keys."""
    return _IMPORTED_SHAPE.fullmatch(key) is not None


def digest(key: str, pepper: str) -> bytes:
    """Return the keyed hash under which a key is stored, 32 bytes."""
    return hmac.digest(pepper.encode(), key.encode(), hashlib.sha256)


def prefix(key: str) -> str:
    """Return the only part of a key that is ever shown again."""
    return key[:PREFIX_LENGTH]
