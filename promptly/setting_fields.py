"""Declares fields of settings, and reads them from variables, reporting every problem at once."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field
from typing import Any, TypeVar, cast

T = TypeVar("T")


class SettingsError(Exception):
    """Missing or invalid variables; `problems` has one message for each."""

    summary = "promptly cannot start: wrong configuration"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{self.summary}\n{lines}")


def setting(
    parse: Callable[[str], T], default: str | None = None, *, empty_means_default: bool = True
) -> T:
    """Declare a field whose variable is read by `parse`; without a default it must be set.

    To type checkers the field has the type that `parse` returns.
    """
    metadata = {"parse": parse, "default": default, "empty_means_default": empty_means_default}
    if default is None:
        return cast(T, field(metadata=metadata))
    return field(default_factory=lambda: parse(default), metadata=metadata)


def read_fields(
    declared: tuple[Field[Any], ...], variables: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the variables that are set, by field, and a message per problem."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for item in declared:
        name = item.name.upper()
        raw = variables.get(name)
        has_default = item.default_factory is not MISSING
        if raw is None or (raw == "" and has_default and item.metadata["empty_means_default"]):
            if not has_default:
                problems.append(f"{name} is not set")
            continue
        try:
            values[item.name] = item.metadata["parse"](raw)
        except ValueError as problem:
            problems.append(f"{name} {problem}")
    return values, problems
