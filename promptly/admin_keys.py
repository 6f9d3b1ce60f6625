"""ADMIN_KEYS: admin keys with the names of their operators, as `ada:key,bob:key`.

ADMIN_KEY is one more key, without a name of its own; its operator is called MAIN.
"""

import re
from dataclasses import dataclass

from promptly.secret import Secret

MAIN = "admin"
SHORTEST_KEY = 24

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)


@dataclass(frozen=True)
class AdminKey:
    """The key of one operator."""

    name: str
    key: Secret


def parse_admin_keys(value: str) -> tuple[AdminKey, ...]:
    """Parse the variable; raises ValueError with a message that contains no part of a key."""
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    parsed = tuple(_parse(number, entry) for number, entry in enumerate(entries, start=1))
    if len({item.name for item in parsed}) < len(parsed):
        raise ValueError("must give each name once")
    if len({item.key for item in parsed}) < len(parsed):
        raise ValueError("must give each name a key of its own")
    return parsed


def _parse(number: int, entry: str) -> AdminKey:
    # An entry that is not understood may be a key with a comma: its text is not shown.
    name, separator, key = (part.strip() for part in entry.partition(":"))
    if not separator:
        raise ValueError(f"must have the form name:key,name:key (entry {number} has no colon)")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"must name operators in lower case letters, digits, '.', '_' and '-' (entry {number})"
        )
    if name == MAIN:
        raise ValueError(f"must not use the name {MAIN!r}, which belongs to ADMIN_KEY")
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"must have keys of at least {SHORTEST_KEY} characters (entry {number})")
    return AdminKey(name, Secret(key))
