"""Steps of one page at its provider, in any order; a step reads its number as it likes.

A step that the provider would refuse raises SandboxError.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tests.support.shop import Json, Shop

T = TypeVar("T")
Step = Callable[[Shop, str, int], None]

AMOUNTS = (1, 33, 50, 120)
METHODS = ("BTC-LN", "BTC-CHAIN", "BTC-LNURL")
LONG_AGO = 1_700_000_000


def one(items: Sequence[T], number: int) -> T:
    return items[number % len(items)]


def subjects(shop: Shop, page: str) -> set[str]:
    """Return the ids of a page and of all that happened to its payment."""
    if not page.startswith("cs_"):
        return {page}
    payment = shop.stripe.object(page)["payment_intent"]
    return {page, *(item["id"] for item in about(shop, payment))}


def about(shop: Shop, payment: str | None) -> Iterator[Json]:
    """Yield the charge, the refunds, the disputes and the warnings of a Stripe payment."""
    for kind in ("charge", "refund", "dispute", "radar.early_fraud_warning"):
        for item in shop.stripe.act("objects", kind=kind):
            if payment is not None and item["payment_intent"] == payment:
                yield item


def parts(shop: Shop, page: str, kind: str) -> list[str]:
    """Return the ids of a page's refunds or disputes, newest first."""
    payment = shop.stripe.object(page)["payment_intent"]
    return [item["id"] for item in about(shop, payment) if item["object"] == kind]


def card(shop: Shop, page: str, number: int) -> None:
    """Pay at once; sometimes the account adds a tax, or takes another currency."""
    terms: Json = one(
        ({}, {}, {"amount_total": 238}, {"amount_total": 90, "currency": "eur"}), number
    )
    if terms and shop.stripe.object(page)["status"] == "open":
        shop.stripe.alter(page, **terms)
    shop.stripe.pay(page)


def debit(shop: Shop, page: str, number: int) -> None:
    shop.stripe.pay(page, delayed=True)


def settle(shop: Shop, page: str, number: int) -> None:
    shop.stripe.settle(page, succeeded=number % 4 != 0)


def expire_session(shop: Shop, page: str, number: int) -> None:
    shop.stripe.expire(page)


def discount(shop: Shop, page: str, number: int) -> None:
    """A discount makes an open session free."""
    if shop.stripe.object(page)["status"] == "open":
        free = {"status": "complete", "payment_status": "no_payment_required"}
        shop.stripe.alter(page, amount_total=0, **free)


def refund_in_dashboard(shop: Shop, page: str, number: int) -> None:
    """Refund a part, or all that is left besides refunds by hand, which Stripe does not know."""
    found = shop.stripe.truth_of(page)
    left = found["held"] - by_hand(shop, page)
    amount = one((*AMOUNTS, left), number)
    if 0 < amount <= left:
        shop.stripe.refund(found["charge_id"], amount, pending=number % 2 == 0)


def by_hand(shop: Shop, page: str) -> int:
    """Return what an operator has recorded as given back by hand."""
    [found] = shop.rows(
        "SELECT coalesce(sum(r.amount_minor), 0) AS minor FROM payment_reversals r"
        " JOIN orders o ON o.id = r.order_id WHERE o.checkout_id = :page AND r.state = 'by_hand'",
        page=page,
    )
    return int(found["minor"])


def fail_refund(shop: Shop, page: str, number: int) -> None:
    refunds = parts(shop, page, "refund")
    if refunds:
        shop.stripe.fail_refund(one(refunds, number), lowers_charge=number % 2 == 0)


def dispute(shop: Shop, page: str, number: int) -> None:
    shop.stripe.open_dispute(
        shop.stripe.charge_of(page),
        amount=one((None, 60), number),
        status=one(("needs_response", "needs_response", "warning_needs_response"), number),
    )


def end_dispute(shop: Shop, page: str, number: int) -> None:
    disputes = parts(shop, page, "dispute")
    if disputes:
        status = one(("won", "lost", "warning_closed", "prevented"), number)
        shop.stripe.close_dispute(one(disputes, number // 4), status)


def warn(shop: Shop, page: str, number: int) -> None:
    shop.stripe.warn_of_fraud(shop.stripe.charge_of(page))


STRIPE: dict[str, Step] = {
    "card": card,
    "debit": debit,
    "settle": settle,
    "expire_session": expire_session,
    "discount": discount,
    "refund_in_dashboard": refund_in_dashboard,
    "fail_refund": fail_refund,
    "dispute": dispute,
    "end_dispute": end_dispute,
    "warn": warn,
}


def pay(shop: Shop, page: str, number: int) -> None:
    shop.btcpay.pay(page, share="1", method=one(METHODS, number))


def pay_part(shop: Shop, page: str, number: int) -> None:
    shop.btcpay.pay(page, share=one(("0.3", "0.6"), number), method=one(METHODS, number // 2))


def pay_over(shop: Shop, page: str, number: int) -> None:
    shop.btcpay.pay(page, share="1.5", method=one(METHODS, number))


def confirm(shop: Shop, page: str, number: int) -> None:
    shop.btcpay.confirm(page)


def replace(shop: Shop, page: str, number: int) -> None:
    shop.btcpay.replace(page)


def expire_invoice(shop: Shop, page: str, number: int) -> None:
    shop.btcpay.alter(page, expires=LONG_AGO)
    shop.btcpay.advance(0)


def stop_watching(shop: Shop, page: str, number: int) -> None:
    """A payment that is on its way is not confirmed in time; one that comes later is not seen."""
    shop.btcpay.alter(page, monitored=LONG_AGO)
    shop.btcpay.advance(0)


def mark_settled(shop: Shop, page: str, number: int) -> None:
    shop.btcpay.mark(page, "Settled")


def mark_invalid(shop: Shop, page: str, number: int) -> None:
    shop.btcpay.mark(page, "Invalid")


def refund_in_btcpay(shop: Shop, page: str, number: int) -> None:
    """Refund all in BTCPay's own pages, as a careful operator: if it is confirmed, and once."""
    found = shop.btcpay.truth_of(page)
    given_back = found["refunded"] + found["promised"] + by_hand(shop, page)
    if found["settled"] == found["paid"] > 0 == given_back:
        shop.btcpay.refund(page, one(("RateThen", "Fiat"), number))


def refund_surplus_in_btcpay(shop: Shop, page: str, number: int) -> None:
    found = shop.btcpay.truth_of(page)
    given_back = found["refunded"] + found["promised"] + by_hand(shop, page)
    if found["settled"] == found["paid"] > 0 == given_back:
        shop.btcpay.refund(page, "OverpaidAmount")


def claim(shop: Shop, page: str, number: int) -> None:
    if offers := shop.btcpay.refunds_of(page):
        shop.btcpay.claim(one(offers, number))


def pay_out(shop: Shop, page: str, number: int) -> None:
    if offers := shop.btcpay.refunds_of(page):
        shop.btcpay.pay_out(one(offers, number))


def archive(shop: Shop, page: str, number: int) -> None:
    if offers := shop.btcpay.refunds_of(page):
        shop.btcpay.archive(one(offers, number))


def change_store(shop: Shop, page: str, number: int) -> None:
    """The operator chooses a default method, or installs another version."""
    shop.btcpay.set_settings(
        default_method=one((None, "BTC-LNURL", "BTC-LN"), number),
        version=one(("2.4.1", "2.3.9"), number // 3),
    )


BTCPAY: dict[str, Step] = {
    "pay": pay,
    "pay_part": pay_part,
    "pay_over": pay_over,
    "confirm": confirm,
    "replace": replace,
    "expire_invoice": expire_invoice,
    "stop_watching": stop_watching,
    "mark_settled": mark_settled,
    "mark_invalid": mark_invalid,
    "refund_in_btcpay": refund_in_btcpay,
    "refund_surplus_in_btcpay": refund_surplus_in_btcpay,
    "claim": claim,
    "pay_out": pay_out,
    "archive": archive,
    "change_store": change_store,
}
