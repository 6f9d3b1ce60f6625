"""Counts that cannot be true, in place of the real ones, as a broken or hostile server reports."""

import re

# By the name that a test steers with: what every count of the answer becomes.
LIES = {
    "negative": b"-5000",
    "beyond_int4": b"5000000000",
    "beyond_int8": b"99999999999999999999",
    "float": b"2.5",
    "infinite": b"1e999",
    "text": b'"7"',
    "null": b"null",
    "true": b"true",
    "list": b"[7]",
}

_COUNTS = re.compile(
    rb'"(cache_n|prompt_n|predicted_n|total|cache|processed|cached_tokens|prompt_tokens'
    rb'|completion_tokens|total_tokens|input_tokens)":\d+'
)


def told(data: bytes, lie: str) -> bytes:
    """Return JSON with all its counts replaced; unchanged without a lie."""
    return _COUNTS.sub(rb'"\1":' + LIES[lie], data) if lie else data
