"""Versions of the pepper, and the key of mailboxes, which does not change."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.models import TrialClaim, User
from promptly.secret import Secret
from promptly.services.accounts import accounts, email_addresses, keys, peppers, trials
from promptly.setting_fields import SettingsError
from promptly.transactions import transaction
from tests.support import factories
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


def an_older_installation() -> None:
    """Create an account as a release without versions did: its mailbox is hashed under FIRST."""
    factories.user("ada@example.com")
    hashed = email_addresses.mailbox_hash("ada@example.com", FIRST)
    db.session.add(TrialClaim(mailbox_hash=hashed))
    db.session.flush()


def test_a_new_pepper_is_never_taken_for_the_first(session: Session) -> None:
    """An upgrade together with a rotation, by a worker or a command that starts before the rest."""
    an_older_installation()
    with pytest.raises(SettingsError, match="earlier releases"):
        keys.create(factories.user().id, "one", SECOND)
    with pytest.raises(SettingsError, match="earlier releases"):
        peppers.register(peppers.SessionDatabase(), make_settings(key_pepper=SECOND))
    assert peppers.known() == {}


def test_the_first_pepper_is_found_amid_a_rotation(session: Session) -> None:
    an_older_installation()
    rotating = make_settings(key_pepper=SECOND, key_pepper_previous=(THIRD, FIRST))
    assert peppers.register(peppers.SessionDatabase(), rotating) == 2
    assert peppers.known() == {peppers.fingerprint(FIRST): 1, peppers.fingerprint(SECOND): 2}
    assert not trials.remember("ada@example.com", rotating)


def test_existing_mailboxes_prove_a_wrong_statement(session: Session) -> None:
    an_older_installation()
    with pytest.raises(SettingsError, match="MAILBOX_PEPPER is not the first pepper"):
        mailbox_key(mailbox_pepper=SECOND)


def test_a_statement_counts_where_no_mailbox_proves_another(session: Session) -> None:
    an_older_installation()
    session.execute(update(User).values(closed_at=func.now()))
    with pytest.raises(SettingsError, match="set MAILBOX_PEPPER"):
        mailbox_key(key_pepper=SECOND)
    assert mailbox_key(key_pepper=SECOND, mailbox_pepper=FIRST) == FIRST


class Overtaken(peppers.SessionDatabase):
    """Lets another process register somebody before it looks for claims of mailboxes."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        if statement.endswith("FROM trial_claims)"):
            together(self._app, self._register)
        return super().fetch_all(statement, parameters)

    @staticmethod
    def _register() -> None:
        with transaction():
            accounts.register("faster@example.com", make_settings())


def test_claims_of_a_faster_process_prove_nothing_against_the_pepper(app: Flask) -> None:
    with app.app_context(), transaction():
        assert peppers.mailbox_key(Overtaken(app), make_settings()) == FIRST
        assert db.session.scalar(func.count(TrialClaim.mailbox_hash)) == 1
