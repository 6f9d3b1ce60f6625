"""Draining and resuming a model server, and its traces in the audit log."""

import pytest
from flask import Flask

from promptly.errors import InvalidRequest
from promptly.services import audit, drains
from promptly.services.audit import Operator

A, B, C = "http://10.0.0.5:8080", "http://10.0.0.5:80801", "https://models.example.com/b"
ADA = Operator("panel:ada", "100.64.0.7")


def test_a_server_is_drained_once_and_resumed_once(app_context: Flask) -> None:
    first = drains.drain(A, ADA, "new kernel")
    assert first is not None
    row = drains.drained()[A]
    assert (row.by, row.note) == ("panel:ada", "new kernel")
    assert drains.drain(A, Operator("cli:bob"), "another") is None
    assert drains.drained()[A].by == "panel:ada"
    second = drains.resume(A, ADA)
    assert second is not None
    assert drains.resume(A, ADA) is None
    assert A not in drains.drained()
    drained, resumed = audit.find(first), audit.find(second)
    assert drained is not None and resumed is not None
    assert (drained.action, drained.subject, drained.actor) == ("upstream.drain", A, "panel:ada")
    assert drained.after == {"state": "drained", "note": "new kernel"}
    assert (resumed.action, resumed.subject) == ("upstream.resume", A)
    assert {drained.action, resumed.action} <= set(audit.ACTIONS)


def test_a_note_that_is_too_long(app_context: Flask) -> None:
    for note in ("x" * 501, "a\x00b"):
        with pytest.raises(InvalidRequest) as caught:
            drains.drain(A, ADA, note)
        assert caught.value.param == "note"
    assert drains.drained() == {}


@pytest.mark.parametrize(
    ("written", "url"),
    [
        (A, A),
        (f"{A}/", A),
        ("10.0.0.5:8080", A),
        ("10.0.0.5:80801", B),
        ("http://10.0.0.5:80801", B),
        ("https://", C),
        ("https://models", C),
        ("models.example.com", C),
    ],
)
def test_ways_to_write_a_server(written: str, url: str) -> None:
    assert drains.find(written, [A, B, C, A]) == url


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("http://10.0.0.5", "fits several"),
        ("", "is not a configured"),
        ("0.0.5:8080", "is not a configured"),
        ("http://10.0.0.6:8080", "is not a configured"),
    ],
)
def test_a_server_that_is_not_known(written: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem) as caught:
        drains.find(written, [A, B, C])
    assert caught.value.param == "url" and A in caught.value.message
    with pytest.raises(InvalidRequest, match="none is configured"):
        drains.find(written, [])
