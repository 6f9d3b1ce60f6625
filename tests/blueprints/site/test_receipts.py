"""The pages of requests and their receipts."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from promptly.models.states import Outcome
from promptly.request_ids import public_id
from promptly.services import paging
from promptly.transactions import transaction
from tests.blueprints.site.conftest import Visitor
from tests.support import factories


def make(app: Flask, visitor: Visitor, count: int) -> list[str]:
    """Create requests, each pair with the same timestamp; return their ids, oldest first."""
    with app.app_context(), transaction():
        events = [
            factories.usage_event(
                visitor.user_id,
                created_at=datetime.now(UTC) - timedelta(minutes=(count - n) // 2),
            )
            for n in range(count)
        ]
        return [public_id(event.request_id) for event in events]


def test_a_receipt(app: Flask, visitor: Visitor) -> None:
    with app.app_context(), transaction():
        event = factories.usage_event(
            visitor.user_id,
            prompt_tokens=900,
            cached_prompt_tokens=777,
            completion_tokens=81,
            charged_paid=800,
        )
        event.key_id = visitor.key_id
        event.time_to_first_token_ms, event.duration_ms = 500, 4500
        event.uncharged_tokens, event.outcome = 181, Outcome.BALANCE_EXHAUSTED
        event.price_id = factories.price(150, 25, 333)
        request_id = public_id(event.request_id)
    assert f"/dashboard/requests/{request_id}" in visitor.get("/dashboard").text
    page = visitor.get(f"/dashboard/requests/{request_id}").text
    for said in (request_id, "900", "777</span> of them cached", "81", "800", ">200<", "181",
                 "500", "4.5", "20.0", "default", "balance used up", "covered no more output",
                 "chat.completions", "1.5 tokens for each", "0.25 where",
                 "3.33 for each"):  # fmt: skip
        assert said in page, said


def test_another_accounts_receipt_is_not_found(
    app: Flask, visitor: Visitor, other: Visitor
) -> None:
    [request_id] = make(app, other, 1)
    for path in (f"/dashboard/requests/{request_id}", f"/dashboard/requests?before={request_id}"):
        assert other.get(path).status_code == 200
        assert visitor.get(path).status_code == 404
    for wrong in ("x", "req_", "req_" + "f" * 32, "%00", "req_" + "0" * 32):
        assert visitor.get(f"/dashboard/requests/{wrong}").status_code == 404


def test_pages_show_each_request_once(
    app: Flask, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 3)
    made = make(app, visitor, 8)
    path, seen, pages = "/dashboard/requests", [], 0
    while path:
        page = visitor.get(path).text
        seen += [part.split('"')[0] for part in page.split('href="/dashboard/requests/')[1:]]
        assert ("Newest" in page) == (pages > 0)
        pages += 1
        _, _, rest = page.partition('href="/dashboard/requests?before=')
        path = f"/dashboard/requests?before={rest.split(chr(34))[0]}" if rest else ""
    assert pages == 3
    assert sorted(seen) == sorted(made) and len(seen) == len(set(seen))


def test_nothing_yet(visitor: Visitor) -> None:
    assert "No requests yet" in visitor.get("/dashboard/requests").text


def test_the_figures_of_three_periods(app: Flask, visitor: Visitor) -> None:
    with app.app_context(), transaction():
        for days, prompt in ((0, 100), (3, 2000), (20, 30_000), (40, 999_999)):
            created_at = datetime.now(UTC) - timedelta(days=days)
            factories.usage_event(
                visitor.user_id, created_at=created_at, prompt_tokens=prompt, completion_tokens=0
            )
    page = visitor.get("/dashboard").text
    rows = page.split('<table class="periods stack">')[1].split("</table>")[0].split("<tr>")[2:]
    figures = [row.split('<span class="number">')[2].split("<")[0] for row in rows]
    assert figures == ["100", "2,100", "32,100"]
    assert "999,999" not in page.split('id="recent"')[0]


@pytest.mark.parametrize("vector", ["<img src=x onerror=alert(1)>", '"><script>x</script>',
                                    "'; DROP", "\u202eevil", "{{7*7}}"])  # fmt: skip
def test_nothing_that_others_wrote_runs(app: Flask, vector: str) -> None:
    from tests.blueprints.site.conftest import sign_up

    visitor = sign_up(app, f"{vector}@example.com", paid_tokens=10)
    with app.app_context(), transaction():
        key = factories.api_key(visitor.user_id, vector)[0]
        event = factories.usage_event(visitor.user_id, model=vector, outcome=vector)
        event.key_id, event.endpoint = key.id, vector
        key_id, request_id = key.id, public_id(event.request_id)
    for path in ("/dashboard", "/dashboard/requests", f"/dashboard/requests/{request_id}",
                 f"/dashboard/keys/{key_id}/revoke", "/dashboard/delete"):  # fmt: skip
        answer = visitor.get(path)
        assert answer.status_code == 200
        assert "<img src=x" not in answer.text and "<script>" not in answer.text
        assert ">49<" not in answer.text
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
    answer = visitor.post("/dashboard/keys", name=vector)
    assert "<img src=x" not in answer.text and "<script>" not in answer.text
