import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptly.errors import BodyTooLarge, InvalidRequest
from promptly.gateway import json_bounds
from promptly.gateway.json_bounds import check_bounds

MAX_VALUES = 1000
MAX_TEXT_BYTES = 64 * 1024

TRICKY = '\\"[]{},:"\\\\é😀\n'
texts = st.text(st.sampled_from(TRICKY) | st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=50,
)


def size_of(value: Any) -> int:
    """Return the number of values and names in a decoded value, empty ones twice."""
    if not isinstance(value, dict | list):
        return 1
    names = len(value) if isinstance(value, dict) else 0
    items = value.values() if isinstance(value, dict) else value
    return 1 + names + sum(size_of(item) for item in items) if value else 2


def passes(body: bytes, *, max_values: int = MAX_VALUES) -> bool:
    try:
        check_bounds(body, max_values, MAX_TEXT_BYTES)
    except InvalidRequest:
        return False
    return True


@given(values, st.booleans())
def test_values_are_counted_outside_strings(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert 1 + len(b"".join(json_bounds._starts(body))) == size_of(value)


@pytest.mark.parametrize("size", [1, 2, 5])
@settings(max_examples=30)
@given(values)
def test_pieces_do_not_change_the_count(size: int, value: Any) -> None:
    body = json.dumps(value).encode()
    whole = b"".join(json_bounds._starts(body))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_bounds, "_PIECE_BYTES", size)
        assert b"".join(json_bounds._starts(body)) == whole


@pytest.mark.parametrize("size", [1, 3, 64])
@given(st.text("a[{:,").map(str.encode), st.integers(1, 20))
def test_the_scan_ends_once_the_rest_cannot_matter(size: int, body: bytes, number: int) -> None:
    starts = sum(body.count(start) for start in (b"[", b"{", b":", b","))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_bounds, "_PIECE_BYTES", size)
        assert json_bounds._has_fewer_starts(body, number) == (starts < number)


@pytest.mark.parametrize("item", [b"{}", b"[]", b"0", b'""', b'"a,[{:"', b'"\\"", "\\\\"'])
def test_values_are_bounded(item: bytes) -> None:
    count = MAX_VALUES // (1 + item.count(b", "))
    fits = b'{"zz":[' + b",".join([item] * (count // 2 - 10)) + b"]}"
    many = b'{"zz":[' + b",".join([item] * (count + 1)) + b"]}"
    assert passes(fits)
    with pytest.raises(InvalidRequest, match="more than 1000 JSON values"):
        check_bounds(many, MAX_VALUES, MAX_TEXT_BYTES)


def test_names_are_bounded_as_well() -> None:
    body = json.dumps({f"name{number}": number for number in range(MAX_VALUES)}).encode()
    assert not passes(body)
    assert passes(body, max_values=2 * MAX_VALUES + 1)


def test_punctuation_in_text_is_no_value() -> None:
    assert passes(json.dumps({"text": '[{"a": [1, 2, 3]}]\\' * MAX_VALUES}).encode())


@pytest.mark.parametrize(
    ("character", "width"),
    [("a", 1), ("é", 1), ("ÿ", 1), ("Ā", 2), ("中", 2), ("\uffff", 2), ("😀", 4)],
)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_wide_characters_take_more(character: str, width: int, ascii_only: bool) -> None:
    def body(length: int) -> bytes:
        return json.dumps(character + "a" * length, ensure_ascii=ascii_only).encode()

    limit = MAX_TEXT_BYTES // width
    check_bounds(body(limit - 20), MAX_VALUES, MAX_TEXT_BYTES)
    with pytest.raises(BodyTooLarge, match=f"at most {limit} characters" if width > 1 else None):
        check_bounds(body(limit), MAX_VALUES, MAX_TEXT_BYTES)


def test_an_agents_prompt_passes() -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "edit_file",
            "description": "Edits a file. " * 20,
            "parameters": {
                "type": "object",
                "properties": {f"p{n}": {"type": "string", "enum": ["a", "b"]} for n in range(20)},
                "required": [f"p{n}" for n in range(20)],
            },
        },
    }
    code = 'def f(x: dict[str, list[int]]) -> str:\n    return {"a": [x, {}]}["a"]\n'
    turn = {"role": "user", "content": code * 50}
    body = json.dumps({"tools": [tool] * 300, "messages": [turn] * 300}).encode()
    assert len(body) > 1_000_000
    check_bounds(body, 200_000, 20 * 1024 * 1024)


@given(st.binary(max_size=2000))
def test_any_bytes_pass_or_are_refused(body: bytes) -> None:
    passes(body, max_values=5)
