"""A secret is given away by nothing but `reveal`."""

import json
import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import orjson
import pytest

from promptly.runtime.logs import JsonFormatter
from promptly.secret import Secret
from tests.support.servers import make_settings

VALUE = "very-secret-0123456789"
SECRET = Secret(VALUE)


def test_it_is_revealed_on_request_only() -> None:
    assert SECRET.reveal() == VALUE
    assert (str(SECRET), repr(SECRET), f"{SECRET:>5}") == ("***", "Secret('***')", "  ***")
    assert (str(Secret("")), repr(Secret(""))) == ("", "Secret('')")
    assert SECRET and not Secret("")
    assert VALUE not in f"{make_settings(admin_key=SECRET)!r}"


def test_it_compares_with_secrets_only() -> None:
    assert Secret(VALUE) == SECRET and hash(Secret(VALUE)) == hash(SECRET)
    assert Secret("another") != SECRET and Secret("é") != SECRET
    assert SECRET != VALUE
    assert replace(make_settings(), admin_key=SECRET) == make_settings(admin_key=SECRET)


@pytest.mark.parametrize("encode", [json.dumps, orjson.dumps, msgspec.json.encode, pickle.dumps])
def test_no_encoder_takes_it(encode: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError):
        encode({"k": SECRET})


def test_it_is_not_a_string() -> None:
    with pytest.raises(TypeError):
        "a" + SECRET  # type: ignore[operator]  # the error that this test expects
    with pytest.raises(TypeError):
        "".join(["a", SECRET])  # type: ignore[list-item]  # the same
    assert not isinstance(SECRET, str)


def test_no_log_line_shows_it() -> None:
    arguments = (SECRET, SECRET)
    record = logging.LogRecord("promptly.x", logging.INFO, "x.py", 1, "a %s %r", arguments, None)
    vars(record).update(key=SECRET, nested={"keys": [SECRET]})
    line = JsonFormatter().format(record)
    assert VALUE not in line
    assert json.loads(line)["key"] == "***"
