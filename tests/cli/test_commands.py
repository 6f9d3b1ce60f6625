import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import text

from promptly.extensions import db
from promptly.prices import parse_prices
from promptly.services.accounts import keys
from promptly.services.ledger import verification
from promptly.services.metering import price_versions
from promptly.tasks import mail
from promptly.transactions import transaction
from sandbox.mail import MailCatcher
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import run


def flask(app: Flask, *arguments: str, code: int = 0) -> Result:
    result = app.test_cli_runner().invoke(args=list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def answer(app: Flask, *arguments: str, code: int = 0) -> Any:
    return json.loads(flask(app, *arguments, "--json", code=code).stdout)


def test_an_account_from_the_command_line(app: Flask) -> None:
    made = answer(app, "users", "create", "bench@example.com")
    assert made == {"user_id": 1, "email": "bench@example.com"}
    changed = answer(app, "balance", "adjust", "--email", "bench@example.com", "--delta", "500")
    assert (changed["paid_tokens"], changed["applied_delta"]) == (500, 500)
    key = answer(app, "keys", "create", "--email", "bench@example.com", "--name", "bench")
    assert set(key) == {"key", "prefix", "id", "scope", "batch"} and key["key"].startswith(
        key["prefix"]
    )
    with app.app_context():
        assert keys.find(key["key"], app.extensions["settings"].key_pepper) is not None
        reported = db.session.execute(text("SELECT kind, payload->>'by_operator' FROM outbox"))
        assert [tuple(row) for row in reported] == [("key_created", "true")]
    shown = answer(app, "users", "show", "bench@example.com")
    assert (shown["key_prefix"], shown["available_tokens"]) == (key["prefix"], 100_500)
    refused = flask(app, "users", "create", "bench@example.com", code=1)
    assert "exists" in refused.stderr and refused.stdout == ""
    assert answer(app, "ledger", "verify")["clean"] is True


def test_balance(app: Flask) -> None:
    with app.app_context(), transaction():
        user_id = factories.user("ada@example.com", paid_tokens=100).id
    taken = answer(app, "balance", "adjust", "--user-id", str(user_id), "--delta", "-1000")
    assert (taken["applied_delta"], taken["paid_tokens"]) == (-100, 0)
    granted = answer(app, "balance", "grant", "--email", "ada@example.com",
                     "--tokens", "50", "--days", "3")  # fmt: skip
    assert granted["trial_tokens"] == 50
    assert answer(app, "balance", "show", "--email", "ada@example.com")["available_tokens"] == 50
    kinds = [row["kind"] for row in answer(app, "ledger", "show", "--email", "ada@example.com")]
    assert kinds == ["grant", "adjustment", "adjustment"]
    flask(app, "balance", "show", "--email", "nobody@example.com", code=1)
    flask(app, "balance", "show", code=2)
    flask(app, "balance", "grant", "--user-id", "1", "--tokens", "-5", "--days", "3", code=2)


def test_keys(app: Flask) -> None:
    with app.app_context(), transaction():
        user_id = factories.user("ada@example.com").id
        first = factories.api_key(user_id, "first")[0].id
        factories.api_key(user_id, "second")
    one = ("--email", "ada@example.com")
    assert [row["name"] for row in answer(app, "keys", "list", *one)] == ["first", "second"]
    third = answer(app, "keys", "create", *one, "--name", "third", "--scope", "inference")
    scopes = [row["scope"] for row in answer(app, "keys", "list", *one)]
    assert scopes == ["full", "full", "inference"]
    flask(app, "keys", "create", *one, "--scope", "admin", code=2)
    assert answer(app, "keys", "create", *one, "--name", "night", "--batch")["batch"] is True
    changed = answer(app, "keys", "batch", *one, "--id", str(first))
    assert changed == {"id": first, "batch": True}
    assert [row["batch"] for row in answer(app, "keys", "list", *one)] == [
        True, False, False, True,
    ]  # fmt: skip
    answer(app, "keys", "batch", *one, "--id", str(first), "--off")
    assert [row["batch"] for row in answer(app, "keys", "list", *one)] == [
        False, False, False, True,
    ]  # fmt: skip
    changes = answer(app, "audit", "list", "--action", "key.batch")
    assert [row["after"] for row in changes] == [{"batch": False}, {"batch": True}]
    flask(app, "keys", "batch", *one, "--id", "999", code=1)
    flask(app, "keys", "revoke", *one, "--id", str(third["id"]), "--yes")
    assert answer(app, "keys", "revoke", *one, "--id", str(first), "--yes") == {"revoked": 1}
    flask(app, "keys", "revoke", *one, "--id", str(first), "--yes", code=1)
    flask(app, "keys", "revoke", *one, code=2)
    assert answer(app, "keys", "revoke", *one, "--all", "--yes") == {"revoked": 2}
    assert answer(app, "keys", "list", *one) == []


def test_delete_asks_first(app: Flask) -> None:
    with app.app_context(), transaction():
        factories.user("ada@example.com", paid_tokens=5)
    flask(app, "users", "delete", "ada@example.com", code=1)
    assert len(answer(app, "users", "list")) == 1
    assert answer(app, "users", "delete", "ada@example.com", "--yes")["deleted"] is True
    assert answer(app, "users", "list") == []


def test_limits_of_an_account(app: Flask) -> None:
    with app.app_context(), transaction():
        user_id = factories.user("ada@example.com", paid_tokens=5).id
    one = ("--email", "ada@example.com")
    own = answer(app, "users", "limit", *one, "--requests-per-minute", "600", "--concurrency", "20")
    assert own == {
        "user_id": user_id,
        "email": "ada@example.com",
        "requests_per_minute": 600,
        "concurrent_requests": 20,
        "suspended_at": None,
    }
    by_id = ("--user-id", str(user_id), "--concurrency", "default")
    changed = answer(app, "users", "limit", *by_id)
    assert (changed["requests_per_minute"], changed["concurrent_requests"]) == (600, None)
    [listed] = answer(app, "users", "list")
    shown = answer(app, "users", "show", "ada@example.com")
    for values in (listed, shown):
        assert (values["requests_per_minute"], values["concurrent_requests"]) == (600, None)
    for wrong in ((), ("--concurrency", "0"), ("--requests-per-minute", "many")):
        flask(app, "users", "limit", *one, *wrong, code=2)


def test_suspending_asks_first(app: Flask) -> None:
    with app.app_context(), transaction():
        user_id = factories.user("ada@example.com", paid_tokens=5).id
    one = ("--email", "ada@example.com")
    flask(app, "users", "suspend", *one, code=1)
    assert answer(app, "users", "show", "ada@example.com")["suspended_at"] is None
    suspended = answer(app, "users", "suspend", *one, "--yes")
    assert suspended["suspended_at"] is not None
    again = answer(app, "users", "suspend", "--user-id", str(user_id), "--yes")
    assert again["suspended_at"] == suspended["suspended_at"]
    assert answer(app, "users", "resume", *one)["suspended_at"] is None
    entries = answer(app, "audit", "list", "--user-id", str(user_id))
    assert [entry["action"] for entry in entries] == ["account.resume", "account.suspend"]


def test_verify_names_differences(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        factories.user("good@example.com", paid_tokens=5)
        factories.user("bad@example.com", paid_tokens=5)
        session.execute(
            text("UPDATE balances SET paid_tokens = 6 WHERE user_id = "
                 "(SELECT id FROM users WHERE email = 'bad@example.com')")
        )  # fmt: skip
    plain = flask(app, "ledger", "verify", code=1).stdout
    assert "bad@example.com" in plain and "good@example.com" not in plain
    found = answer(app, "ledger", "verify", code=1)
    assert found["accounts"] == 2 and found["differences"][0]["expected"] == 5
    with app.app_context():
        assert verification.newest() is None
    flask(app, "ledger", "verify", "--record", code=1)
    with app.app_context():
        recorded = verification.newest()
        assert recorded is not None and recorded.differences == 1


def test_usage(app: Flask) -> None:
    with app.app_context(), transaction():
        user = factories.user("ada@example.com", paid_tokens=100)
        factories.usage_event(user.id, charged_paid=15, cached_prompt_tokens=6)
    today = datetime.now(UTC).date().isoformat()
    assert "rebuilt_from" in answer(app, "usage", "roll-up")
    (day,) = answer(app, "usage", "daily", "--email", "ada@example.com")
    assert (day["date"], day["charged_tokens"], day["cached_prompt_tokens"]) == (today, 15, 6)
    (request,) = answer(app, "usage", "recent", "--email", "ada@example.com")
    assert request["request_id"].startswith("req_")
    assert request["cached_prompt_tokens"] == 6


def test_trials_and_holds(app: Flask) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    with app.app_context(), transaction():
        factories.user(trial_tokens=10, trial_expires_at=past)
        user = factories.user("ada@example.com", trial_tokens=10)
        factories.hold(user.id, held_trial=4)
    assert answer(app, "trials", "expire", "--dry-run")["tokens"] == 10
    assert len(answer(app, "trials", "list")) == 2
    assert answer(app, "trials", "expire") == {"accounts": 1, "tokens": 10, "dry_run": False}
    assert [row["email"] for row in answer(app, "trials", "list")] == ["ada@example.com"]
    (hold,) = answer(app, "holds", "list")
    assert (hold["email"], hold["held_trial"]) == ("ada@example.com", 4)
    # The hold's process is alive.
    flask(app, "holds", "recover", hold["request_id"], code=1)
    with app.app_context(), transaction() as session:
        session.execute(text("UPDATE holds SET checkpoint_at = now() - interval '1 minute'"))
    assert answer(app, "holds", "recover", hold["request_id"])["state"] == "recovered"
    assert answer(app, "holds", "list") == []
    flask(app, "holds", "recover", hold["request_id"], code=1)
    [act] = answer(app, "audit", "list", "--action", "hold.recover")
    assert act["subject"] == hold["request_id"]


def test_outbox(mail_app: Flask, mail_catcher: MailCatcher) -> None:
    with mail_app.app_context(), transaction():
        factories.mail(user_id=factories.user("ada@example.com").id, recipient="ada@example.com")
    run(mail_app, mail.sweep)
    (row,) = answer(mail_app, "outbox", "list", "--state", "sent")
    assert answer(mail_app, "outbox", "list", "--before", str(row["id"])) == []
    flask(mail_app, "outbox", "cancel", str(row["id"]), code=1)
    assert answer(mail_app, "outbox", "resend", str(row["id"]))["state"] == "pending"
    run(mail_app, mail.sweep)
    assert len(mail_catcher.messages("ada@example.com")) == 2
    with mail_app.app_context():
        assert len(keys.list_active(1)) == 1  # the second mail's
    assert answer(mail_app, "outbox", "resend", str(row["id"]))["state"] == "pending"
    assert answer(mail_app, "outbox", "cancel", str(row["id"]))["state"] == "cancelled"
    with mail_app.app_context():
        assert keys.list_active(1) == []
    flask(mail_app, "outbox", "resend", "999", code=1)


def test_doctor_finds_problems(app_factory: AppFactory, mail_catcher: MailCatcher) -> None:
    app = app_factory(smtp_host=mail_catcher.host, smtp_port=mail_catcher.port)
    found = answer(app, "doctor", code=1)  # no llama-server runs
    levels = {item["check"]: item["level"] for item in found["findings"]}
    assert levels["PostgreSQL"] == levels["Redis"] == levels["Migrations"] == levels["Mail"] == "ok"
    assert levels["Upstream 127.0.0.1:1"] == "error"


@pytest.mark.parametrize(
    ("values", "check", "level", "advice"),
    [
        ({"database_url": "postgresql://nobody@127.0.0.1:1/x"}, "PostgreSQL", "error",
         "DATABASE_URL"),
        ({"redis_url": "redis://127.0.0.1:1/0"}, "Redis", "error", "REDIS_URL"),
        ({"smtp_host": "127.0.0.1", "smtp_port": 1}, "Mail", "error", "SMTP_HOST"),
        ({}, "Mail", "warning", "SMTP_HOST"),
        ({"web_concurrency": 200}, "Connections", "warning", "max_connections"),
        # Two gateways of 22 connections for each worker overlap during a deploy.
        ({"web_concurrency": 3}, "Connections", "ok", "at most 144 used during a deploy"),
        ({"base_url": "https://llm.example.com"}, "Site", "warning", "KEY_REISSUE_CONFIRM=true"),
    ],
)  # fmt: skip
def test_doctor_says_what_to_do(
    app_factory: AppFactory, values: dict[str, Any], check: str, level: str, advice: str
) -> None:
    found = answer(app_factory(**values), "doctor", code=1)
    assert any(
        (item["check"], item["level"]) == (check, level) and advice in item["message"]
        for item in found["findings"]
    ), found


def test_trials_of_today(app_factory: AppFactory) -> None:
    app = app_factory(trials_per_domain_per_day=1)
    for address in ("ada@a.example.com", "eve@b.example.com", "bob@gmail.com"):
        flask(app, "users", "create", address)
    assert answer(app, "trials", "today") == [
        {"domain": "all", "granted": 2, "limit": None},
        {"domain": "example.com", "granted": 1, "limit": 1},
    ]


def test_prices(app: Flask) -> None:
    [first] = answer(app, "prices", "list")
    assert first["valid_from"] == "1970-01-01T00:00:00+00:00"
    assert [first[name] for name in ("model", "input", "cached", "output", "valid_until")] == [
        *("*", 100, 100, 100, None)
    ]
    with app.app_context(), transaction():
        price_versions.put_in_force(parse_prices("*:100:100:100,big:150:25:333"))
        price_versions.put_in_force(parse_prices("*:100:100:100"))
    rows = answer(app, "prices", "list")
    assert [(row["model"], row["valid_until"] is None) for row in rows] == [
        ("*", True),
        ("big", False),
    ]


def test_limits_of_a_key(app: Flask) -> None:
    answer(app, "users", "create", "ada@example.com")
    ada = ("--email", "ada@example.com")
    made = answer(app, "keys", "create", *ada, "--name", "laptop", "--cap", "500", "--per", "day")
    assert (made["cap_tokens"], made["per"], made["left_tokens"]) == (500, "day", 500)
    limited = answer(
        app, "keys", "limit", *ada, "--name", "laptop", "--cap", "1,000", "--models", "a,b",
        "--addresses", "192.0.2.0/24", "--concurrency", "2", "--expires", "2999-12-31",
    )  # fmt: skip
    assert limited == {
        "id": made["id"],
        "name": "laptop",
        "scope": "full",
        "expires_at": "3000-01-01T00:00:00Z",
        "models": "a,b",
        "addresses": "192.0.2.0/24",
        "concurrency": 2,
        "cap_tokens": 1000,
        "per": "day",
        "used_tokens": 0,
        "left_tokens": 1000,
    }
    [listed] = [key for key in answer(app, "keys", "list", *ada) if key["name"] == "laptop"]
    assert (listed["cap_tokens"], listed["models"]) == (1000, "a,b")
    freed = answer(
        app, "keys", "limit", *ada, "--id", str(made["id"]), "--cap", "none", "--models", "all",
        "--addresses", "all", "--concurrency", "none", "--expires", "never", "--rename", "desk",
        "--scope", "inference",
    )  # fmt: skip
    assert (freed["name"], freed["scope"], freed["cap_tokens"]) == ("desk", "inference", None)
    assert freed["expires_at"] is freed["models"] is freed["concurrency"] is None
    wrong = (
        (("--name", "nobody"), "no active key"),
        (("--name", "desk", "--cap", "5"), "'per' is one of"),
        (("--name", "desk", "--addresses", "192.0.2.1/24"), "Do you mean 192.0.2.0/24?"),
    )
    for options, message in wrong:
        assert message in flask(app, "keys", "limit", *ada, *options, code=1).output
    again = flask(app, "keys", "create", *ada, "--name", "desk", code=1)
    assert "Another key of this account has this name." in again.output
    acts = [entry["action"] for entry in answer(app, "audit", "list")]
    assert acts.count("key.limit") == 2
