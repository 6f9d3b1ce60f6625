"""Commands write to the audit log, and a command lists it."""

import getpass

from flask import Flask

from promptly.models import WebhookEvent
from promptly.transactions import transaction
from tests.cli.test_commands import answer, flask
from tests.support import factories


def test_actions_by_command_are_recorded(app: Flask) -> None:
    made = answer(app, "users", "create", "ada@example.com", "--mail")
    account = ("--user-id", str(made["user_id"]))
    key = answer(app, "keys", "create", *account, "--name", "laptop")
    answer(app, "keys", "revoke", *account, "--id", str(key["id"]), "--yes")
    answer(app, "balance", "adjust", *account, "--delta", "500", "--reference", "invoice 7")
    answer(app, "balance", "adjust", *account, "--delta", "500", "--reference", "invoice 7")
    answer(app, "balance", "grant", *account, "--tokens", "5", "--days", "1")
    answer(app, "outbox", "cancel", "1")
    answer(app, "outbox", "resend", "1")
    with app.app_context(), transaction() as session:
        event = WebhookEvent(provider="stripe", event_id="evt_1", type="ping", state="parked")
        session.add(event)
        session.flush()
        event_id = event.id
    answer(app, "webhooks", "replay", str(event_id))
    answer(app, "users", "delete", "ada@example.com", "--yes")
    found = answer(app, "audit", "list")
    assert [row["action"] for row in found] == [
        "account.delete", "webhook.replay", "mail.resend", "mail.cancel", "balance.grant",
        "balance.adjust", "key.revoke", "key.create", "account.create",
    ]  # fmt: skip
    assert {row["actor"] for row in found} == {f"cli:{getpass.getuser()}"}
    assert {row["address"] for row in found} == {None}
    adjusted = found[5]
    assert (adjusted["user_id"], adjusted["subject"]) == (made["user_id"], "invoice 7")
    assert adjusted["before"]["paid_tokens"] == 0
    assert (adjusted["after"]["paid_tokens"], adjusted["after"]["applied_delta"]) == (500, 500)
    assert found[0]["before"]["paid_tokens"] == 500
    assert "ada@" not in str(found) and key["key"] not in str(found)
    chosen = answer(app, "audit", "list", "--action", "mail.cancel")
    assert [row["action"] for row in chosen] == ["mail.cancel"]
    assert len(answer(app, "audit", "list", "--limit", "2")) == 2
    older = answer(app, "audit", "list", "--before", str(found[-2]["id"]))
    assert [row["action"] for row in older] == ["account.create"]
    assert "balance.adjust" in flask(app, "audit", "list", *account).stdout


def test_refused_actions_are_not_recorded(app: Flask) -> None:
    with app.app_context(), transaction():
        user_id = factories.user().id
    flask(app, "keys", "revoke", "--user-id", str(user_id), "--id", "99", "--yes", code=1)
    flask(app, "balance", "adjust", "--user-id", "99", "--delta", "5", code=1)
    flask(app, "balance", "adjust", "--user-id", "1", "--delta", str(2**53), code=2)
    flask(app, "outbox", "resend", "99", code=1)
    flask(app, "trials", "expire", "--dry-run")
    assert answer(app, "audit", "list") == []
