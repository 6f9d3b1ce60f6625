import json
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptly.errors import InvalidRequest
from promptly.gateway import json_body

# UTF-8 cannot encode halves of surrogate pairs.
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


@given(st.dictionaries(texts, values))
def test_json_is_read_and_written_unchanged(value: dict[str, Any]) -> None:
    read = json_body.decode_object(json.dumps(value).encode())
    assert read == value
    assert json.loads(json_body.encode(read)) == value


@given(st.binary(max_size=200))
def test_bytes_are_an_object_or_refused(body: bytes) -> None:
    # InvalidRequest is the only exception allowed.
    with suppress(InvalidRequest):
        assert isinstance(json_body.decode_object(body), dict)


@pytest.mark.parametrize("number", [b"1e308", b"-1e308", b"0.1", b"1" + b"0" * 299, b"-5", b"1E5"])
def test_numbers_that_are_accepted(number: bytes) -> None:
    read = json_body.decode_object(b'{"x": ' + number + b"}")
    assert json.loads(json_body.encode(read))["x"] == json.loads(number)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(b"4.0", int), (b"1e3", int), (b"-0.0", int), (b"4.5", float), (b"1e19", float)],
)
def test_a_whole_number_may_have_a_fraction_of_zero(number: bytes, kind: type) -> None:
    [read] = json_body.decode_object(b'{"x": ' + number + b"}").values()
    assert type(read) is kind
    assert read == json.loads(number)


@pytest.mark.parametrize("number", [b"1e309", b"-1e400", b"1" + b"0" * 300, b"NaN", b"-Infinity"])
def test_numbers_that_are_refused(number: bytes) -> None:
    read = json_body.decode_object(b'{"a": [0, {"x": ' + number + b"}]}")
    with pytest.raises(InvalidRequest) as refusal:
        json_body.encode(read)
    assert refusal.value.param == "a[1].x"


def test_a_long_duplicate_key_is_abbreviated() -> None:
    key = "k" * 5000
    with pytest.raises(InvalidRequest) as refusal:
        json_body.decode_object(f'{{"{key}": 1, "{key}": 2}}'.encode())
    assert refusal.value.param == key[:100]
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize("depth", [10, 300])
def test_usual_depths_are_read(depth: int) -> None:
    body = b'{"a":' * depth + b"1" + b"}" * depth
    assert json.loads(json_body.encode(json_body.decode_object(body)))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_levels_are_bounded(opening: bytes, closing: bytes) -> None:
    def nested(levels: int) -> bytes:
        return b'{"x": ' + opening * levels + b"0" + closing * levels + b"}"

    json_body.decode_object(nested(json_body.MAX_DEPTH - 1))
    wide = b'{"x": [' + b",".join([b"[]"] * json_body.MAX_DEPTH) + b"]}"
    json_body.decode_object(wide)
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        json_body.decode_object(nested(json_body.MAX_DEPTH))


class Pairs(msgspec.Struct):
    pairs: dict[Annotated[str, msgspec.Meta(max_length=3)], int]


@pytest.mark.parametrize(
    ("pairs", "param"), [({"long": 1}, "pairs"), ({"a": "x"}, "pairs[...]"), (5, "pairs")]
)
def test_a_wrong_key_or_value_of_a_mapping_is_named(pairs: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        json_body.check({"pairs": pairs}, Pairs)
    assert refusal.value.param == param
    assert f"'{param}'" in refusal.value.message


@pytest.mark.parametrize("name", ["n" * 1025, "é" * 1025, "n" * 1_000_000])
def test_long_names_are_refused(name: str) -> None:
    for value in ({name: 1}, {"a": [{"b": 1, name: None}]}):
        with pytest.raises(InvalidRequest, match="a name of more than 1024 characters") as refusal:
            json_body.decode_object(json.dumps(value).encode())
        assert refusal.value.param == name[:100]
        assert len(refusal.value.message) < 200
    allowed = {name[:1024]: 1}
    assert json_body.decode_object(json.dumps(allowed).encode()) == allowed
