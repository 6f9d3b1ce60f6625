"""The arguments of a tool call in a conversation's history.

OpenAI keeps them as an opaque string: a call that was cut by a limit comes back as `{"a"`, and
some clients send null or an object. llama-server decodes the string, and refuses a conversation
in which it is not JSON.
"""

from typing import Any

import orjson

from promptly.errors import InvalidRequest
from promptly.gateway import json_body

NONE = "{}"


def upstream_arguments(arguments: Any) -> str:
    """Return the client's text if it is a JSON object, an object as its text, or else `{}`.

    Raises LoneSurrogate, after which the body decoder replaces these and starts again.
    """
    if isinstance(arguments, dict):
        try:
            return json_body.encode(arguments).decode()
        except json_body.LoneSurrogate:
            raise
        except InvalidRequest:
            # NaN and Infinity are no JSON.
            return NONE
    if not isinstance(arguments, str):
        return NONE
    try:
        data = arguments.encode()
    except UnicodeEncodeError:
        raise json_body.LoneSurrogate from None
    if _is_object(data):
        return arguments
    replaced = json_body.without_lone_surrogates(data)
    return replaced.decode() if replaced is not None and _is_object(replaced) else NONE


def _is_object(data: bytes | bytearray) -> bool:
    try:
        # At most 1024 levels; upstream would decode, and crash at, any number.
        return isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False
