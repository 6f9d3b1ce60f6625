"""How an API key is made, recognised and stored.

`sk-`, 40 random base62 characters (238 bits), 6 base62 characters of the CRC-32 of all before:
a typing error is refused without asking the database. At rest there is only an HMAC-SHA256
under the pepper; a slow hash protects guessable secrets, and this one cannot be guessed.
"""

import hashlib
import hmac
import re
import secrets
import zlib

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX_LENGTH = 12
PEPPER_VERSION = 1

_SHAPE = re.compile(r"sk-[0-9A-Za-z]{46}", re.ASCII)


def generate() -> str:
    """A new key, 49 characters long."""
    body = "sk-" + "".join(secrets.choice(ALPHABET) for _ in range(40))
    return body + checksum(body)


def checksum(body: str) -> str:
    """The six base62 characters that close a key whose first 43 characters are `body`."""
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def is_well_formed(key: str) -> bool:
    """Whether shape and checksum are those of a key; says nothing of whether it is good."""
    return _SHAPE.fullmatch(key) is not None and checksum(key[:43]) == key[43:]


def digest(key: str, pepper: str) -> bytes:
    """The keyed hash under which a key is stored, 32 bytes."""
    return hmac.digest(pepper.encode(), key.encode(), hashlib.sha256)


def prefix(key: str) -> str:
    """The only part of a key that is ever shown again."""
    return key[:PREFIX_LENGTH]
