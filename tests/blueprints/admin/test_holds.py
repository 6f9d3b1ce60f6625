"""Open holds: the list, and settling those that a dead process left."""

from datetime import UTC, datetime, timedelta

import pytest

from promptly.models import Balance, Hold
from promptly.request_ids import new_request_id, public_id
from promptly.services import paging
from promptly.services.ledger import verification
from promptly.transactions import transaction
from tests.blueprints.admin.panel import XSS, Panel
from tests.support import factories


def running(pages: Panel, email: str | None = None, silent_seconds: int = 0, **values: str) -> str:
    """Create an open hold of a new account; return its request's public id."""
    with pages.app.app_context(), transaction():
        user = factories.user(email, paid_tokens=1000)
        hold = factories.hold(user.id, held_paid=300)
        hold.prompt_tokens, hold.completion_tokens = 100, 20
        hold.checkpoint_at = datetime.now(UTC) - timedelta(seconds=silent_seconds)
        hold.created_at = datetime.now(UTC) - timedelta(seconds=silent_seconds + 3)
        for name, value in values.items():
            setattr(hold, name, value)
        return public_id(hold.request_id)


def test_no_request_runs(pages: Panel) -> None:
    assert "No requests are running." in pages.words("/admin/holds")
    assert "No more requests" in pages.words(f"/admin/holds?after={public_id(new_request_id())}")
    pages.page("/admin/holds?after=nonsense")


def test_running_requests(pages: Panel) -> None:
    running(pages, "ann@example.com")
    words = pages.words("/admin/holds")
    assert "1 open, 300 tokens held" in words
    assert "ann@example.com test-model chat.completions 300 100 20" in words
    assert "Settle…" not in words


def test_page_by_page(pages: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    emails = [f"user{letter}@example.net" for letter in "abcde"]
    for email in emails:
        running(pages, email)
    shown, path = [], "/admin/holds"
    for _ in range(3):
        page = pages.page(path)
        shown.append([email for email in emails if email in page])
        path = page.partition('rel="next"')[0].rsplit('href="', 1)[1][:-2]
    assert shown == [emails[:2], emails[2:4], emails[4:]]


def test_names_are_text(pages: Panel) -> None:
    request_id = running(pages, "<script>alert(1)</script>@x.example", 60, model=XSS, endpoint=XSS)
    pages.page("/admin/holds")
    pages.page(f"/admin/holds/{request_id}/recover")


def test_a_dead_request_is_settled_at_its_last_checkpoint(pages: Panel) -> None:
    request_id = running(pages, "ann@example.com", silent_seconds=60)
    assert "Settle…" in pages.words("/admin/holds")
    path = f"/admin/holds/{request_id}/recover"
    question = pages.words(path)
    assert "ann@example.com" in question and "120 tokens for its last checkpoint" in question
    assert "was settled at its last checkpoint" in pages.confirm(path)
    with pages.app.app_context(), transaction() as session:
        [hold] = session.query(Hold)
        [balance] = session.query(Balance)
        assert (hold.state, balance.paid_tokens, balance.held_paid) == ("recovered", 880, 0)
        assert verification.verify() == []
        user_id = hold.user_id
    [(action, account, subject, before, after)] = pages.audited()
    assert (action, account, subject) == ("hold.recover", user_id, request_id)
    assert before == {"held_tokens": 300, "prompt_tokens": 100, "completion_tokens": 20}
    assert after == {"state": "recovered"}
    pages.page(path, 404)


def test_a_living_request_is_left_alone(pages: Panel) -> None:
    path = f"/admin/holds/{running(pages)}/recover"
    assert "is still alive" in pages.post(path, pages.form(path), 400)
    assert pages.audited() == []


@pytest.mark.parametrize("change", [{"csrf_token": ""}, {"user_id": "7"}])
def test_forms_that_do_not_fit(pages: Panel, change: dict[str, str]) -> None:
    path = f"/admin/holds/{running(pages, silent_seconds=60)}/recover"
    pages.post(path, pages.form(path) | change, 400)
    assert pages.audited() == []


def test_there_must_be_such_a_hold(pages: Panel) -> None:
    for name in (public_id(new_request_id()), "nonsense", "req_" + "z" * 32):
        pages.page(f"/admin/holds/{name}/recover", 404)
