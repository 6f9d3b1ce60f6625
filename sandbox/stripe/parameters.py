"""Stripe's form encoding, and parameter checks with Stripe's errors."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from sandbox.stripe.errors import ApiError

Check = Callable[[str, Any], Any]

METADATA_KEYS, METADATA_KEY_CHARACTERS, METADATA_CHARACTERS = 50, 40, 500
ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def decode(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Turn ``a[b][0]=c`` into nested dictionaries; lists stay dictionaries keyed by index."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        first, *rest = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name) or [name]
        node, key = root, first
        for step in rest:
            inner = node.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ApiError(f"Invalid object: {name}", param=name)
            # a[]=x appends an item.
            node, key = inner, step or str(len(inner))
        node[key] = value
    return root


class Fields:
    """An object of known parameters, some of them required."""

    def __init__(self, checks: Mapping[str, Check], required: Iterable[str] = ()) -> None:
        self.checks = checks
        self.required = tuple(required)

    def __call__(self, path: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ApiError("Invalid object", code="parameter_invalid_object", param=path)
        for name in value:
            if name not in self.checks:
                where = _inside(path, name)
                raise ApiError(
                    f"Received unknown parameter: {where}", code="parameter_unknown", param=where
                )
        for name in self.required:
            if name not in value:
                where = _inside(path, name)
                raise ApiError(
                    f"Missing required param: {where}.", code="parameter_missing", param=where
                )
        return {name: self.checks[name](_inside(path, name), item) for name, item in value.items()}


def each(check: Check, maximum: int = 100) -> Check:
    """A list of at most ``maximum`` items that all pass one check."""

    def checked(path: str, value: Any) -> list[Any]:
        if not isinstance(value, dict) or not all(key.isdecimal() for key in value):
            raise ApiError("Invalid array", code="parameter_invalid_array", param=path)
        if len(value) > maximum:
            raise ApiError(f"Array too large: at most {maximum} items", param=path)
        return [check(f"{path}[{key}]", value[key]) for key in sorted(value, key=int)]

    return checked


def text(maximum: int = 5000) -> Check:
    """A non-empty string."""

    def checked(path: str, value: Any) -> str:
        if not isinstance(value, str):
            raise ApiError("Invalid string", code="parameter_invalid_string", param=path)
        if not value:
            raise ApiError(
                f"An empty string cannot unset '{path}'.",
                code="parameter_invalid_empty",
                param=path,
            )
        if len(value) > maximum:
            raise ApiError(f"Invalid string: must be at most {maximum} characters", param=path)
        return value

    return checked


def integer(minimum: int, maximum: int = 99_999_999) -> Check:
    """An integer within bounds."""

    def checked(path: str, value: Any) -> int:
        if not isinstance(value, str) or not re.fullmatch(r"-?\d+", value):
            raise ApiError(
                f"Invalid integer: {value}", code="parameter_invalid_integer", param=path
            )
        number = int(value)
        if not minimum <= number <= maximum:
            raise ApiError(
                f"This value must lie between {minimum} and {maximum}.",
                code="parameter_invalid_integer",
                param=path,
            )
        return number

    return checked


def boolean(path: str, value: Any) -> bool:
    """``true`` or ``false``."""
    if value not in ("true", "false"):
        raise ApiError(f"Invalid boolean: {value}", param=path)
    return bool(value == "true")


def choice(*words: str) -> Check:
    """One of the given words."""

    def checked(path: str, value: Any) -> str:
        if value not in words:
            raise ApiError(f"Invalid {path}: must be one of {', '.join(words)}", param=path)
        return str(value)

    return checked


def web_address(path: str, value: Any) -> str:
    """An absolute http or https URL."""
    given: str = text(5000)(path, value)
    # It may contain Stripe's own placeholder.
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ApiError("Not a valid URL", code="url_invalid", param=path)
    return given


def mail_address(path: str, value: Any) -> str:
    """An email address."""
    given: str = text(800)(path, value)
    if not ADDRESS.fullmatch(given):
        raise ApiError(f"Invalid email address: {given}", code="email_invalid", param=path)
    return given


def metadata(path: str, value: Any) -> dict[str, str]:
    """Up to 50 short strings by name; empty ones are dropped."""
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ApiError("Invalid object", code="parameter_invalid_object", param=path)
    if len(value) > METADATA_KEYS:
        raise ApiError(f"Metadata may have {METADATA_KEYS} keys at most.", param=path)
    for name, item in value.items():
        if len(name) > METADATA_KEY_CHARACTERS or len(item) > METADATA_CHARACTERS:
            raise ApiError("A metadata key or value is too long.", param=_inside(path, name))
    return {name: item for name, item in value.items() if item}


def _inside(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name
