"""The arguments of a tool call in a conversation's history.

OpenAI keeps them as an opaque string: a call that was cut by a limit comes back as `{"a"`, and
some clients send null or an object. llama-server decodes the string, and refuses a conversation
in which it is not JSON.
"""

from typing import Any

import orjson

NONE = "{}"


def upstream_arguments(arguments: Any) -> str:
    """Return the client's text if it is a JSON object, an object as its text, or else `{}`."""
    if isinstance(arguments, dict):
        try:
            return orjson.dumps(arguments).decode()
        except TypeError:
            # It holds NaN, Infinity, an integer beyond 64 bits, or hundreds of levels.
            return NONE
    if not isinstance(arguments, str):
        return NONE
    try:
        # At most 1024 levels; upstream would decode, and crash at, any number.
        decoded = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return NONE
    return arguments if isinstance(decoded, dict) else NONE
