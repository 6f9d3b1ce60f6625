"""A limit on clients' JSON schemas: those of tools' parameters and of the answer's format.

llama-server compiles them to a grammar, in time that grows with the square of an object's
properties, of a list of alternatives and of a pattern's length, and does nothing else in that time:
1,000 properties take it 2 s, 5,000 alternatives 4 s, a pattern of 4,000 characters 14 s, and 20,000
properties crash it. Within the limit it needs less than a second.
"""

from typing import Any

from promptly.errors import InvalidRequest

# Equals 630 properties of one object, or 1,260 alternatives, or a pattern of 1,260 characters.
MAX_WEIGHT = 400_000
MAX_TOOLS = 1024

# A tuple is checked faster than a union, which is built anew each time.
_CONTAINERS = (dict, list)


def check_schemas(schemas: Any, param: str) -> None:
    """Raise InvalidRequest naming `param` if these decoded schemas together are too large."""
    if weight(schemas) > MAX_WEIGHT:
        raise InvalidRequest(
            f"Invalid value for '{param}': its JSON schemas are too large for the model server. "
            "Give objects fewer properties, lists fewer alternatives, or shorten patterns.",
            param=param,
        )


def weight(schemas: Any) -> int:
    """Return the sum of the squares of all sizes, with a quarter for lists and patterns."""
    total = 0
    waiting = [schemas]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            total += len(value) ** 2
            pattern = value.get("pattern")
            if isinstance(pattern, str):
                total += len(pattern) ** 2 // 4
            waiting += [item for item in value.values() if isinstance(item, _CONTAINERS)]
        else:
            total += len(value) ** 2 // 4
            waiting += [item for item in value if isinstance(item, _CONTAINERS)]
    return total
