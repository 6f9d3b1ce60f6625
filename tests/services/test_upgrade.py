"""The release before this one, upgraded: its keys, sessions, trials and balances stay good."""

from collections.abc import Iterator

import flask_migrate
import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from sqlalchemy import text

from promptly.app import create_app
from promptly.extensions import db
from promptly.services.accounts import email_addresses, key_format
from promptly.services.accounts.trials import remember
from promptly.services.ledger import balances, verification
from promptly.transactions import transaction
from tests.support.databases import Databases
from tests.support.servers import PROJECT, VARIABLES, WorkerRedis, make_settings

BEFORE = "0006"
EMAIL = "ada@example.com"
PAID, TRIAL = 5_000_000, 60_000

# As the release before wrote it: one account with a key, a trial and a purchase.
ROWS = """
INSERT INTO users (email, key_prefix) VALUES (:email, :prefix);
INSERT INTO api_keys (user_id, name, prefix, key_hash) VALUES (1, 'default', :prefix, :hash);
INSERT INTO balances (user_id, paid_tokens, trial_tokens, held_paid, held_trial, trial_expires_at)
  VALUES (1, :paid, :trial, 0, 0, now() + interval '5 days');
INSERT INTO ledger_entries (user_id, kind, paid_delta, actor)
  VALUES (1, 'adjustment', :paid, 'ada');
INSERT INTO ledger_entries (user_id, kind, trial_delta, reference, actor)
  VALUES (1, 'trial_grant', :trial, 'account:1', 'system');
INSERT INTO trial_claims (mailbox_hash) VALUES (:mailbox);
"""


@pytest.fixture
def upgraded(databases: Databases, redis_server: WorkerRedis, key: str) -> Iterator[Flask]:
    """An application on a database that was upgraded from the release before."""
    with databases.temporary("template1") as url:
        app = create_app(make_settings(database_url=url, redis_url=redis_server.url))
        pepper = VARIABLES["KEY_PEPPER"]
        with app.app_context():
            flask_migrate.upgrade(directory=str(PROJECT / "migrations"), revision=BEFORE)
            with transaction() as session:
                session.execute(
                    text(ROWS),
                    {
                        "email": EMAIL,
                        "prefix": key_format.prefix(key),
                        "hash": key_format.digest(key, pepper),
                        "mailbox": email_addresses.mailbox_hash(EMAIL, make_settings().key_pepper),
                        "paid": PAID,
                        "trial": TRIAL,
                    },
                )
            flask_migrate.upgrade(directory=str(PROJECT / "migrations"))
            yield app
            db.engine.dispose()
        app.extensions["hot_path_database"].dispose()


@pytest.fixture
def key() -> str:
    return key_format.generate()


def test_keys_sessions_and_balances_stay(upgraded: Flask, key: str) -> None:
    client = upgraded.test_client()
    answer = client.get("/v1/balance", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert answer.json is not None
    assert (answer.json["paid_tokens"], answer.json["trial_tokens"]) == (PAID, TRIAL)
    assert client.get(f"/dashboard?key={key}").status_code == 200

    # The cookie of the release before: the key's id, signed with GATEWAY_SECRET_KEY.
    serializer = SecureCookieSessionInterface().get_signing_serializer(upgraded)
    assert serializer is not None
    cookie = serializer.dumps({"key_id": 1, "_permanent": True})
    browser = upgraded.test_client()
    browser.set_cookie("promptly_session", str(cookie))
    for _ in range(2):
        page = browser.get("/dashboard")
        assert page.status_code == 200
        assert EMAIL in page.text

    with transaction():
        assert verification.verify() == []
        assert balances.read(1)["paid_tokens"] == PAID
        # Neither the address nor another spelling of it gets a second trial.
        settings = upgraded.extensions["settings"]
        assert not remember(EMAIL, settings)
        assert not remember("Ada+again@example.com", settings)
