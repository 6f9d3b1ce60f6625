"""Request ids: UUIDs of version 7, so that rows created in order are adjacent on disk."""

import os
import time
import uuid

PUBLIC_PREFIX = "req_"


def new_request_id() -> uuid.UUID:
    """Return a new id whose first 48 bits are the Unix time in milliseconds (RFC 9562)."""
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10))
    number = (milliseconds << 80) | noise
    number = number & ~(0xF << 76) | (0x7 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return uuid.UUID(int=number)


def public_id(request_id: uuid.UUID) -> str:
    """Format the id as clients see it: `req_` and 32 hexadecimal digits."""
    return PUBLIC_PREFIX + request_id.hex


def parse_id(text: str) -> uuid.UUID | None:
    """Parse an id written by `public_id`, with or without its prefix; None if malformed."""
    digits = text.removeprefix(PUBLIC_PREFIX)
    if len(digits) != 32:
        return None
    try:
        return uuid.UUID(hex=digits)
    except ValueError:
        return None


def started_at_ms(request_id: uuid.UUID) -> int:
    """Return the start time of the request, in milliseconds of Unix time."""
    return request_id.int >> 80
