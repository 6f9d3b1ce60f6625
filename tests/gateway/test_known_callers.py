"""Callers are remembered for a while, unproven, and only where a hold can be placed at once."""

import pytest

from promptly.gateway import known_callers
from promptly.gateway.known_callers import KnownCallers
from promptly.runtime import recently_used
from promptly.services.accounts.authentication import Caller
from promptly.services.accounts.leash import Leash

HASH, OTHER = b"\x01" * 32, b"\x02" * 32


def caller(**differences: object) -> Caller:
    fields: dict[str, object] = {"key_id": 1, "user_id": 2, "available_tokens": 70, "pays": True}
    return Caller(**(fields | differences))  # type: ignore[arg-type]


def test_a_caller_is_found_unproven_each_time() -> None:
    known = KnownCallers()
    assert known.find(HASH) is None
    known.note(HASH, caller())
    first = known.find(HASH)
    assert first == caller(unproven_key_hash=HASH)
    first.unproven_key_hash = None
    assert known.find(HASH) == caller(unproven_key_hash=HASH)
    assert known.find(OTHER) is None
    known.note(HASH, None)
    assert known.find(HASH) is None


@pytest.mark.parametrize("differences", [{"leash": Leash(["m"], None)}, {"outdated": True}])
def test_others_are_not_remembered(differences: dict[str, object]) -> None:
    known = KnownCallers()
    known.note(HASH, caller(**differences))
    assert known.find(HASH) is None


def test_a_key_is_avoided_although_it_is_valid() -> None:
    known = KnownCallers()
    known.note(HASH, caller())
    known.avoid(HASH)
    known.note(HASH, caller())
    assert known.find(HASH) is None


def test_both_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownCallers()
    monkeypatch.setattr(known_callers, "SECONDS", -1.0)
    monkeypatch.setattr(known_callers, "AVOIDED_SECONDS", -1.0)
    known.note(OTHER, caller())
    known.avoid(HASH)
    monkeypatch.undo()
    assert known.find(OTHER) is None
    known.note(HASH, caller())
    assert known.find(HASH) is not None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recently_used, "MOST_NAMES", 1)
    known = KnownCallers()
    for key_hash in (HASH, OTHER):
        known.note(key_hash, caller())
    assert known.find(HASH) is None
    assert known.find(OTHER) is not None
