"""Mail in the panel: the list, one mail without its content, resending and cancelling."""

import pytest
from sqlalchemy import text

from promptly import labels
from promptly.models import ApiKey, OutboxMail
from promptly.services import paging
from promptly.services.mail import messages
from promptly.transactions import transaction
from tests.blueprints.admin.panel import XSS, Panel
from tests.support import factories


def written(pages: Panel, count: int = 1, kind: str = "new_key", **values: object) -> int:
    """Create mails of a new account; return the account's id."""
    with pages.app.app_context(), transaction():
        user = factories.user("ann@example.com" if count == 1 else None)
        for _ in range(count):
            mail = factories.mail(kind, user_id=user.id, recipient=user.email)
            for name, value in values.items():
                setattr(mail, name, value)
        return user.id


def listed(pages: Panel, query: str = "") -> list[int]:
    page = pages.page(f"/admin/outbox{query}")
    return [number for number in range(1, 20) if f'href="/admin/outbox/{number}"' in page]


def state(pages: Panel, mail_id: int = 1) -> str:
    with pages.app.app_context(), transaction() as session:
        return session.get_one(OutboxMail, mail_id).state


def test_none_yet(pages: Panel) -> None:
    assert "No emails yet." in pages.words("/admin/outbox")
    assert "No matching emails." in pages.words("/admin/outbox?kind=receipt")
    for path in ("1", "1/resend", "1/cancel", "x"):
        pages.page(f"/admin/outbox/{path}", 404)


def test_every_kind_of_mail_has_words() -> None:
    assert set(messages.SUBJECTS) == set(labels.MAIL_KINDS)


def test_the_list_page_by_page_and_filtered(pages: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    written(pages, 3)
    written(pages, 2, "receipt", state="failed", last_error="550 no such mailbox")
    assert listed(pages) == [1, 2, 3, 4, 5]
    assert listed(pages, "?state=failed") == listed(pages, "?kind=receipt") == [4, 5]
    assert listed(pages, "?state=failed&kind=new_key") == []
    assert listed(pages, "?user_id=1") == [1, 2, 3]
    assert "failed 550 no such mailbox" in pages.words("/admin/outbox")
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    assert [listed(pages, query) for query in ("", "?before=4", "?before=2", "?after=3")] == [
        [4, 5], [2, 3], [1], [4, 5],
    ]  # fmt: skip


def test_one_mail_without_its_contents(pages: Panel) -> None:
    payload = {"number": "P-2345-6789-ABCD", "claim_url": "https://secret.example/claim"}
    written(pages, kind="refund_notice", payload=payload)
    page, shown = pages.page("/admin/outbox/1"), pages.words("/admin/outbox/1")
    assert "secret.example" not in page
    assert 'href="/admin/purchases/P-2345-6789-ABCD"' in page
    assert "To ann@example.com" in shown and "Kind refund" in shown and "Cancel…" in shown


def test_stored_data_is_shown_as_text(pages: Panel) -> None:
    written(pages, kind=XSS, recipient=XSS, last_error=XSS, payload={"number": XSS})
    for path in ("", "/1", "/1/resend", "/1/cancel"):
        pages.page(f"/admin/outbox{path}")


def test_sending_again_asks_and_is_written_down(pages: Panel) -> None:
    user_id = written(pages, state="failed", attempts=30, last_error="550")
    question = pages.words("/admin/outbox/1/resend")
    for sentence in ("1: new key", "To ann@example.com", "carries a new key"):
        assert sentence in question, sentence
    assert 'href="/admin/outbox?user_id=1"' in pages.page("/admin/users/1")
    assert state(pages) == "failed"
    assert "The email will be sent" in pages.confirm("/admin/outbox/1/resend")
    assert state(pages) == "pending"
    assert pages.audited() == [
        ("mail.resend", user_id, "1", {"state": "failed", "kind": "new_key", "attempts": 30},
         {"state": "pending"})
    ]  # fmt: skip
    assert 'href="/admin/outbox/1"' in pages.page("/admin/audit")


def test_cancelling_asks_and_revokes_what_it_carries(pages: Panel) -> None:
    user_id = written(pages)
    with pages.app.app_context(), transaction():
        key, _ = factories.api_key(user_id)
        key.outbox_id = 1
        key_id = key.id
    assert "does not get the key" in pages.words("/admin/outbox/1/cancel")
    assert "The email was cancelled." in pages.confirm("/admin/outbox/1/cancel")
    assert state(pages) == "cancelled" and "Cancel…" not in pages.words("/admin/outbox/1")
    with pages.app.app_context(), transaction() as session:
        assert session.get_one(ApiKey, key_id).revoked_at is not None
    assert [act[0] for act in pages.audited()] == ["mail.cancel"]


def test_mail_sent_meanwhile_is_not_cancelled(pages: Panel) -> None:
    written(pages)
    fields = pages.form("/admin/outbox/1/cancel")
    with pages.app.app_context(), transaction() as session:
        session.execute(text("UPDATE outbox SET state = 'sent'"))
    assert "has already been sent" in pages.post("/admin/outbox/1/cancel", fields, 400)
    assert state(pages) == "sent" and pages.audited() == []


@pytest.mark.parametrize("change", [{"csrf_token": ""}, {"user_id": "7"}, {"user_id": ""}])
@pytest.mark.parametrize("act", ["resend", "cancel"])
def test_forms_that_do_not_fit(pages: Panel, act: str, change: dict[str, str]) -> None:
    written(pages)
    path = f"/admin/outbox/1/{act}"
    pages.post(path, pages.form(path) | change, 400)
    assert pages.audited() == [] and state(pages) == "pending"
