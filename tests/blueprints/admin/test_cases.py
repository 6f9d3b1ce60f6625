"""Payment cases: listed with their choices, confirmed, decided once."""

from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from promptly import labels
from promptly.models import PaymentCase
from promptly.models.states import CaseKind
from promptly.services import paging
from promptly.services.payments import cases, credit
from promptly.transactions import transaction
from tests.blueprints.admin.conftest import ADMIN_KEY
from tests.blueprints.admin.panel import XSS, Panel
from tests.support import factories
from tests.support.factories import order as make_order
from tests.support.races import together
from tests.support.shop import Shop


def raised(
    pages: Panel,
    kind: CaseKind = CaseKind.AMOUNT,
    *,
    received_minor: int | None = None,
    credited: bool = False,
    **values: Any,
) -> tuple[int, str]:
    """Raise a case about a new purchase; return the account's id and the purchase's number."""
    with pages.app.app_context(), transaction():
        user = factories.user()
        order = make_order(user.id, state="open" if credited else "attention")
        order.received_minor = received_minor
        if credited:
            credit.credit(order, actor="stripe")
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
    credited = kind in {CaseKind.PAID_OVER, CaseKind.INVALID, CaseKind.FRAUD_WARNING}
    _, number = raised(pages, kind, received_minor=300, credited=credited)
    page, listed = pages.page("/admin/cases/1"), pages.words("/admin/cases")
    for choice in labels.CHOICES:
        # The account of a deleted one is here, and the choices depend on what is, not on the kind.
        offered = choice in cases.CHOICES[kind]
        path = f"/admin/cases/1?choice={choice}"
        assert (f'href="{path}"' in page) == offered, choice
        question = pages.words(path, 200 if offered else 400)
        if not offered:
            continue
        assert number in question and question.count("?") == 1
        # The title and the button are the choice's, with its amount.
        title = question.partition("?")[0].rpartition("Audit ")[2]
        assert question.count(title) == 2 and f"{title}…" in listed
        if choice in cases.REFUNDS:
            assert "$" in title and "tokens are taken" in question
    assert labels.CASES[kind] in listed


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
    refused = pages.post("/admin/cases/1", fields, 400)
    assert "This case has been decided already: credited by panel:admin." in refused
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
    assert "Refund $2.00…" in shop_pages.words("/admin/cases")
    path = f"/admin/cases/{case['id']}"
    assert "Refund $2.00? Case" in shop_pages.words(f"{path}?choice=refund")
    fields = shop_pages.form(f"{path}?choice=refund", path)
    shown = shop_pages.words(shop_pages.post(path, fields))
    assert "refunded by panel" in shown and "refund succeeded $2.00" in shown
    # Sent twice, or from a page that the back button shows.
    assert "decided already: refunded by panel" in shop_pages.post(path, fields, 400)
    assert len(shop.stripe.requests("POST /v1/refunds")) == 1
    assert shop.orders()[0]["state"] == "refunded" and shop.paid_tokens(user_id) == 0


def overpaid(shop: Shop) -> tuple[int, str]:
    """Pay half as much again as the price in Bitcoin; return the account and the case's path."""
    user_id = shop.account()
    shop.btcpay.pay(shop.order(user_id, method="btcpay"), share="1.5")
    shop.reconcile()
    return user_id, f"/admin/cases/{shop.cases()[-1]['id']}"


def test_a_surplus_is_credited(shop: Shop, shop_pages: Panel) -> None:
    user_id, path = overpaid(shop)
    page = shop_pages.words(path)
    assert "Received $3.00 Given back $0.00" in page
    for label in ("Credit the surplus, 12,500,000 tokens…", "Refund the surplus, $1.00…",
                  "Refund all, $3.00…", "Dismiss and keep $1.00…"):  # fmt: skip
        assert label in page
    assert "surplus credited by panel" in shop_pages.confirm(f"{path}?choice=credit_surplus")
    assert shop.paid_tokens(user_id) == 37_500_000
    number = shop.orders()[0]["number"]
    words = shop_pages.words(f"/admin/purchases/{number}")
    assert "37,500,000 tokens for $3.00" in words
    assert "$3.00; $1.00 more than the price was credited too" in words


def test_a_case_that_changed_meanwhile_is_not_decided(shop: Shop, shop_pages: Panel) -> None:
    _, path = overpaid(shop)
    fields = shop_pages.form(f"{path}?choice=refund", path)
    # Another operator refunds a part in the meantime.
    shop.refund(shop.orders()[0]["number"], 250)
    refused = shop_pages.post(path, fields, 400)
    assert "has changed since you saw it: now it is 'Refund the surplus, $0.50'" in refused
    assert shop.btcpay.truth_of(shop.orders()[0]["checkout_id"])["promised"] == 250
    # A form that does not say what it showed decides nothing.
    assert "has changed" in shop_pages.post(path, fields | {"seen": ""}, 400)
    assert "Refund the surplus, $0.50" in shop_pages.words(path)


def test_operators_refund_at_once(shop: Shop) -> None:
    _, path = overpaid(shop)
    sends = []
    for choice in ("refund", "refund_all") * 3:
        client = shop.app.test_client()
        client.post("/admin/session", data={"key": ADMIN_KEY})
        form = Panel(shop.app, client).form(f"{path}?choice={choice}", path)
        sends.append(partial(client.post, path, data=form))
    answers = together(shop.app, *sends)
    assert sorted(answer.status_code for answer in answers) == [303, 400, 400, 400, 400, 400]
    amount = {"refund": 100, "refund_all": 300}[shop.cases()[0]["resolution"]]
    assert shop.rows("SELECT amount_minor FROM payment_reversals") == [{"amount_minor": amount}]
    # Others may have asked the provider just then; in that case reconciliation makes the refund.
    promised = shop.btcpay.truth_of(shop.orders()[0]["checkout_id"])["promised"]
    assert promised in {0, amount}


def test_the_link_of_a_bitcoin_refund_until_it_is_claimed(shop: Shop, shop_pages: Panel) -> None:
    _, path = overpaid(shop)
    shown = shop_pages.confirm(f"{path}?choice=refund")
    [refund] = shop.rows("SELECT id, link, provider_id FROM payment_reversals")
    assert "offered, not claimed yet" in shown and refund["link"] in shown
    number = shop.orders()[0]["number"]
    shop.rows("UPDATE payment_reversals SET created_at = now() - interval '75 hours'")
    for page in (path, f"/admin/purchases/{number}", "/admin/cases"):
        found = shop_pages.page(page)
        assert f'<code class="breakable" id="claim-{refund["id"]}">{refund["link"]}</code>' in found
        assert f'data-copy="#claim-{refund["id"]}"' in found
    assert "No open cases." in shop_pages.words("/admin/cases")
    assert "3 days" in shop_pages.words("/admin/cases")
    overview = shop_pages.words("/admin")
    assert "1 Bitcoin refund not claimed by the customer yet" in overview

    shop.btcpay.claim(refund["provider_id"])
    shop.reconcile()
    listed = shop_pages.words("/admin/cases")
    assert "claimed: approve the payout in BTCPay" in listed and refund["link"] not in listed
    assert "1 Bitcoin refund claimed by the customer; approve" in shop_pages.words("/admin")
    shop.btcpay.pay_out(refund["provider_id"])
    shop.reconcile()
    assert "Refunds on their way" not in shop_pages.words("/admin/cases")
    assert "Nothing: no open payment cases" in shop_pages.words("/admin")


def test_a_refused_refund_is_not_called_decided(shop: Shop, shop_pages: Panel) -> None:
    _, path = overpaid(shop)
    shop.btcpay.set_fault("POST /api/v1/stores/*/refund", status=400)
    shown = shop_pages.confirm(f"{path}?choice=refund")
    assert "The refund did not succeed, so this case is open again." in shown
    assert "was decided" not in shown and "Refund the surplus, $1.00" in shown


def test_money_of_no_order_is_read_first(shop: Shop, shop_pages: Panel) -> None:
    page = shop.order(shop.account())
    shop.stripe.pay(page)
    shop.rows("DELETE FROM orders")
    shop.reconcile()
    path = f"/admin/cases/{shop.cases()[0]['id']}"
    words = shop_pages.words(path)
    assert "once Stripe has been asked how much was received" in words and "Refund" not in words
    fields = shop_pages.form(path, f"{path}/check")
    shown = shop_pages.words(shop_pages.post(f"{path}/check", fields))
    assert "The amounts below are the provider's newest." in shown and "Refund $2.00…" in shown
    assert "on record only" in shown
    assert "refund succeeded $2.00" in shop_pages.confirm(f"{path}?choice=refund")
    assert shop.stripe.truth_of(page)["refunded"] == 200
    assert [entry[0] for entry in shop_pages.audited()] == ["payment.read", "payment.resolve"]


@pytest.mark.parametrize(
    "change", [{"user_id": "77"}, {"user_id": ""}, {"choice": "take_back"}, {"choice": ""},
               {"csrf_token": ""}, {"note": "x" * 501}, {"seen": "credit 0"}, {"seen": ""}]
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
