"""Decodes and checks JSON bodies, more strictly than Python; errors name the field at fault.

It refuses duplicate keys, deep nesting, NaN, Infinity, and numbers that we or upstream would read
as infinite (1e400, an integer of a thousand digits). An integer may have a fraction of zero (4.0).
Only the standard library's decoder has hooks for all of this; 1 MB takes it about 4 ms.
"""

import json
import math
import re
from typing import Any, TypeVar

import msgspec

from promptly.errors import InvalidRequest
from promptly.gateway.json_bounds import Body

T = TypeVar("T")

# Deeper than any schema; the decoder's own limit differs between versions of Python.
MAX_DEPTH = 512
# A tuple is checked faster than a union, which is built anew each time.
_CONTAINERS = (dict, list)
# Longer integers are refused; the largest float has 309 digits.
_MAX_DIGITS = 300
# Integral floats below this become integers.
_WHOLE = 2.0**63


class NotANumber:
    """Placeholder for NaN and Infinity, until `check` or `encode` can name their field."""


class DuplicateKey(ValueError):
    """An object has the same key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class LoneSurrogate(InvalidRequest):
    """A string contains half of a surrogate pair, which UTF-8 cannot encode."""

    def __init__(self) -> None:
        super().__init__("A string in the body contains an unpaired surrogate.")


# Escaped backslashes and whole pairs, so that they are passed over, or else a half.
_SURROGATES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u([dD][89a-fA-F][0-9a-fA-F]{2})"
)


def without_lone_surrogates(body: Body) -> Body | None:
    """Return JSON with U+FFFD for each half of a surrogate pair; None if there is no half.

    Programs that cut a text in the middle of a character send halves. Looking for them takes a
    tenth of the time that decoding does, so it is for bodies that were refused. One that consists
    of nothing but escapes takes 0.1 s for each MiB; each match yields the GIL when asked.
    """
    replaced: bytearray | None = None
    for found in _SURROGATES.finditer(body):
        if found[1] is not None:
            replaced = bytearray(body) if replaced is None else replaced
            replaced[found.start(1) : found.end(1)] = b"fffd"
    return replaced


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKey(key)
            seen.add(key)
    return found


def _float(digits: str) -> float | int | NotANumber:
    number = float(digits)
    if not math.isfinite(number):
        return NotANumber()
    # 4.0 is an integer in JSON Schema, and for clients whose language has only floats.
    return int(number) if number.is_integer() and abs(number) < _WHOLE else number


def _integer(digits: str) -> int | NotANumber:
    return int(digits) if len(digits) <= _MAX_DIGITS else NotANumber()


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_float,
    parse_int=_integer,
    parse_constant=lambda _: NotANumber(),
)


def decode_object(body: Body) -> dict[str, Any]:
    """Return the JSON object in a body; raises InvalidRequest for anything else."""
    try:
        value = _decoder.decode(body.decode())
    except DuplicateKey as problem:
        raise InvalidRequest(
            f"The body contains the field '{problem.key[:100]}' twice.", param=problem.key[:100]
        ) from None
    except UnicodeDecodeError as problem:
        raise InvalidRequest(f"The body is not valid UTF-8 at byte {problem.start}.") from None
    except json.JSONDecodeError as problem:
        raise InvalidRequest(
            f"The body is not JSON: {problem.msg} at character {problem.pos}."
        ) from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    _check_depth(value)
    return value


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, _CONTAINERS)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body is nested too deeply: more than {MAX_DEPTH} levels.")


_PATH = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]*)`")


def check(value: dict[str, Any], kind: type[T]) -> T:
    """Return the value as `kind`; raises InvalidRequest naming the field at fault."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as problem:
        raise _named(str(problem)) from None
    except UnicodeEncodeError:
        raise LoneSurrogate from None
    except RecursionError:
        raise _too_deep() from None


def _named(text: str) -> InvalidRequest:
    path = _PATH.search(text)
    param = path.group(1) if path else ""
    reason = _PATH.sub("", text)
    missing = _MISSING.search(reason)
    if missing:
        param = f"{param}.{missing.group(1)}" if param else missing.group(1)
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param)
    reason = reason.replace("NotANumber", "NaN or Infinity")
    where = f"'{param}'" if param else "the body"
    return InvalidRequest(f"Invalid value for {where}: {reason}.", param=param or None)


def encode(value: Any) -> bytes:
    """Return the value as compact JSON; raises InvalidRequest if JSON cannot represent it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise LoneSurrogate from None
    except RecursionError:
        raise _too_deep() from None
    except (TypeError, OverflowError, ValueError):
        param = _culprit(value, "")
        raise InvalidRequest(
            f"Invalid value for '{param}': not a number that JSON can represent.", param=param
        ) from None


def _culprit(value: Any, path: str) -> str | None:
    """Return the path of the first number that cannot be encoded."""
    value = msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else value
    if isinstance(value, NotANumber):
        return path
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return next((found for key, item in items if (found := _culprit(item, key))), None)
