"""Payment cases: listed with their choices, confirmed, decided once."""

from typing import Any

import pytest
from sqlalchemy import text

from promptly import labels
from promptly.models import PaymentCase
from promptly.models.states import CaseKind
from promptly.services import paging
from promptly.services.payments import cases
from promptly.transactions import transaction
from tests.blueprints.admin.panel import XSS, Panel
from tests.support import factories
from tests.support.factories import order as make_order
from tests.support.shop import Shop


def raised(pages: Panel, kind: CaseKind = CaseKind.AMOUNT, **values: Any) -> tuple[int, str]:
    """Raise a case about a new purchase; return the account's id and the purchase's number."""
    with pages.app.app_context(), transaction():
        user = factories.user()
        order = make_order(user.id, state="attention")
        cases.raise_case(
            kind, provider="stripe", checkout_id=order.checkout_id or "", order_id=order.id,
            **{"detail": "Odd.", "paid_minor": 70, **values},
        )  # fmt: skip
        return user.id, order.number


def test_nothing_to_decide(pages: Panel) -> None:
    assert "No open cases." in pages.words("/admin/cases")
    assert "No cases yet." in pages.words("/admin/cases?show=all")
    pages.page("/admin/cases/1", 404)


def test_every_kind_and_choice_has_words() -> None:
    assert set(labels.CASES) == set(cases.CHOICES)
    offered = {choice for choices in cases.CHOICES.values() for choice in choices}
    assert offered == set(labels.CHOICES) == set(labels.RESOLUTIONS) - {cases.SUPERSEDED}


@pytest.mark.parametrize("kind", cases.CHOICES)
def test_each_kind_shows_its_choices_and_asks(pages: Panel, kind: CaseKind) -> None:
    _, number = raised(pages, kind)
    page = pages.page("/admin/cases/1")
    for choice in labels.CHOICES:
        offered = choice in cases.CHOICES[kind]
        path = f"/admin/cases/1?choice={choice}"
        assert (f'href="{path}"' in page) == offered
        question = pages.words(path, 200 if offered else 400)
        assert not offered or (number in question and labels.CHOICES[choice][1] in question)
    assert labels.CASES[kind] in pages.words("/admin/cases")


def test_a_case_is_credited_with_a_note(pages: Panel) -> None:
    user_id, number = raised(pages)
    shown = pages.confirm("/admin/cases/1?choice=credit", note=f"He wrote {XSS}")
    assert "Case 1 was decided." in shown and "credited by panel" in shown and "He wrote" in shown
    assert pages.audited() == [
        ("payment.resolve", user_id, "1", {"state": "attention"},
         {"choice": "credit", "order": number, "state": "paid"})
    ]  # fmt: skip
    assert "No open cases." in pages.words("/admin/cases")
    assert "credited" in pages.words("/admin/cases?show=all")
    # A case is decided only once.
    pages.page("/admin/cases/1?choice=dismiss", 400)
    fields = {"csrf_token": pages.token(), "user_id": str(user_id), "choice": "dismiss"}
    assert "decided already" in pages.post("/admin/cases/1", fields, 400)
    assert len(pages.audited()) == 1


def test_a_case_without_a_purchase_is_dismissed(pages: Panel) -> None:
    with pages.app.app_context(), transaction() as session:
        session.add(
            PaymentCase(provider="btcpay", checkout_id=XSS, kind="unknown_order", detail=XSS)
        )
    assert "dismissed by panel" in pages.confirm("/admin/cases/1?choice=dismiss")
    assert pages.audited()[0][:3] == ("payment.resolve", None, "1")


def test_money_that_does_not_fit_is_refunded(shop: Shop, shop_pages: Panel) -> None:
    user_id = shop.account()
    page = shop.order(user_id)
    with shop.app.app_context(), transaction() as session:
        session.execute(text("UPDATE orders SET amount_minor = 300"))
    shop.stripe.pay(page)
    shop.reconcile()
    [case] = shop.cases()
    assert "Refund…" in shop_pages.words("/admin/cases")
    shown = shop_pages.confirm(f"/admin/cases/{case['id']}?choice=refund")
    assert "refunded by panel" in shown
    assert len(shop.stripe.requests("POST /v1/refunds")) == 1
    assert shop.orders()[0]["state"] == "refunded" and shop.paid_tokens(user_id) == 0


@pytest.mark.parametrize(
    "change", [{"user_id": "77"}, {"user_id": ""}, {"choice": "take_back"}, {"choice": ""},
               {"csrf_token": ""}, {"note": "x" * 501}]
)  # fmt: skip
def test_forms_that_do_not_fit(pages: Panel, change: dict[str, str]) -> None:
    raised(pages)
    pages.post("/admin/cases/1", pages.form("/admin/cases/1?choice=credit") | change, 400)
    assert pages.audited() == [] and "credited" not in pages.words("/admin/cases?show=all")


def test_the_list_page_by_page(pages: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    for _ in range(3):
        raised(pages)
    first, second = pages.page("/admin/cases"), pages.page("/admin/cases?before=2")
    assert [n for n in (1, 2, 3) if f'href="/admin/cases/{n}"' in first] == [2, 3]
    assert [n for n in (1, 2, 3) if f'href="/admin/cases/{n}"' in second] == [1]
    assert "before=2" in first and "after=1" in second
