"""A secret value that cannot be logged, serialized or concatenated by accident."""

import hmac
from typing import Never, final


@final
class Secret:
    """A value that only `reveal()` gives away.

    It is not a string: JSON encoders, `+` and `join` refuse it, `str` and `repr` mask it, and it
    cannot be pickled. Comparison takes constant time.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self else "Secret('')"

    def __str__(self) -> str:
        return "***" if self else ""

    def __format__(self, specification: str) -> str:
        return format(str(self), specification)

    def __reduce__(self) -> Never:
        raise TypeError("a Secret cannot be pickled or copied")
