"""Versions of the pepper, and the key of mailboxes, which does not change."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from promptly.secret import Secret
from promptly.services.accounts import peppers, trials
from promptly.settings import SettingsError
from promptly.transactions import transaction
from tests.support.races import together
from tests.support.servers import make_settings

FIRST = make_settings().key_pepper
SECOND, THIRD = Secret("the second pepper " * 2), Secret("the third pepper! " * 2)


def mailbox_key(**values: Any) -> Secret:
    return peppers.mailbox_key(peppers.SessionDatabase(), make_settings(**values))


def test_versions_are_counted_up(session: Session) -> None:
    database = peppers.SessionDatabase()
    found = [peppers.version(database, pepper) for pepper in (FIRST, SECOND, FIRST, THIRD, SECOND)]
    assert found == [1, 2, 1, 3, 2]
    assert peppers.known() == {
        peppers.fingerprint(pepper): number
        for number, pepper in enumerate((FIRST, SECOND, THIRD), start=1)
    }


def test_processes_agree_on_versions(app: Flask) -> None:
    def ask(pepper: Secret) -> int:
        with transaction():
            return peppers.version(peppers.SessionDatabase(), pepper)

    calls = [lambda pepper=pepper: ask(pepper) for pepper in (FIRST, SECOND, THIRD, SECOND) * 3]
    found = together(app, *calls)
    assert len(set(found)) == 3 and found[:4] * 3 == found and found[1] == found[3]


def test_the_key_of_mailboxes_outlives_the_pepper(session: Session) -> None:
    assert mailbox_key() == FIRST
    assert mailbox_key(key_pepper=SECOND, key_pepper_previous=(THIRD, FIRST)) == FIRST
    assert mailbox_key(key_pepper=SECOND, mailbox_pepper=FIRST) == FIRST
    assert mailbox_key(key_pepper_previous=(SECOND,)) == FIRST


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"key_pepper": SECOND}, "KEY_PEPPER"),
        ({"key_pepper": SECOND, "key_pepper_previous": (THIRD,)}, "KEY_PEPPER"),
        ({"mailbox_pepper": SECOND}, "MAILBOX_PEPPER"),
    ],
)
def test_another_key_of_mailboxes_is_refused(
    session: Session, values: dict[str, Any], name: str
) -> None:
    mailbox_key()
    with pytest.raises(SettingsError) as problem:
        mailbox_key(**values)
    assert problem.value.problems[0].startswith(f"{name} is not the first pepper")
    assert "pepper " * 2 not in str(problem.value)


def test_a_first_start_amid_a_rotation_has_to_name_it(session: Session) -> None:
    rotating = {"key_pepper": SECOND, "key_pepper_previous": (FIRST,)}
    with pytest.raises(SettingsError, match="MAILBOX_PEPPER is not set"):
        mailbox_key(**rotating)
    settings = make_settings(**rotating, mailbox_pepper=FIRST)
    assert peppers.register(peppers.SessionDatabase(), settings) == 2
    assert mailbox_key(**rotating) == FIRST


def test_a_rotation_gives_nobody_a_second_trial(session: Session) -> None:
    assert trials.remember("ada@example.com", make_settings())
    for values in (
        {"key_pepper_previous": (SECOND,)},
        {"key_pepper": SECOND, "key_pepper_previous": (FIRST,)},
        {"key_pepper": SECOND, "mailbox_pepper": FIRST},
        {"key_pepper": THIRD, "key_pepper_previous": (SECOND,), "mailbox_pepper": FIRST},
    ):
        assert not trials.remember("ada@example.com", make_settings(**values))
