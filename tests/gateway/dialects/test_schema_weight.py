"""The size limit of schemas, which protects llama-server's grammars."""

from typing import Any

import pytest

from promptly.errors import InvalidRequest
from promptly.gateway.dialects.schema_weight import MAX_TOOLS, check_schemas, weight

TEXT = {"type": "string"}


def with_properties(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{number}": TEXT for number in range(count)}}


@pytest.mark.parametrize(
    "schemas",
    [
        {},
        [{}] * MAX_TOOLS,
        # The number of tools of a busy coding agent.
        [with_properties(12)] * 300,
        with_properties(500),
        {"enum": [str(number) for number in range(1000)]},
        {"pattern": "x" * 1000},
        {"description": "x" * 100_000},
        {"properties": {"pattern": {"enum": ["a", "b"]}}},
    ],
)
def test_small_enough(schemas: Any) -> None:
    check_schemas(schemas, "tools")


@pytest.mark.parametrize(
    "schemas",
    [
        with_properties(700),
        {"items": {"anyOf": [{"$defs": {"x": with_properties(700)}}]}},
        [with_properties(100)] * 50,
        {"enum": [*range(2000)]},
        {"type": ["string"] * 2000},
        {"properties": {"x": {"pattern": "a?" * 1000}}},
    ],
)
def test_too_large(schemas: Any) -> None:
    with pytest.raises(InvalidRequest, match="too large") as refusal:
        check_schemas(schemas, "text.format")
    assert refusal.value.param == "text.format"


def test_weights_are_squares() -> None:
    assert weight({"a": {}, "b": [0, 0], "pattern": "xxxx"}) == 9 + 0 + 1 + 4
