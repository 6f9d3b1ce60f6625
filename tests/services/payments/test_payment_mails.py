"""The mails about payments as customers read them: their words, amounts and links."""

import re
from dataclasses import replace

import pytest

from promptly.extensions import db
from promptly.models import OutboxMail
from promptly.services.mail import messages
from promptly.services.payments import checkout
from promptly.settings import Settings
from promptly.transactions import transaction
from tests.support.shop import Shop


def settle(shop: Shop) -> None:
    """Handle all events, then reconcile."""
    for provider in (shop.stripe, shop.btcpay):
        provider.wait_until_quiet()
    shop.work()
    shop.reconcile()


def mails(shop: Shop, settings: Settings | None = None) -> list[tuple[str, str]]:
    """Return subject and text of each mail, oldest first.

    Both parts must lead to the same pages, to the address of the account.
    """
    with shop.app.app_context(), transaction():
        found = []
        for row in db.session.query(OutboxMail).order_by(OutboxMail.id):
            message = messages.compose(row, settings or shop.settings, None)
            text, html = (message.get_body((part,)) for part in ("plain", "html"))
            assert text is not None and html is not None
            words = " ".join(text.get_content().split())
            linked = re.findall(r'href="([^"]+)"', html.get_content().replace("&amp;", "&"))
            assert {link.rstrip(".") for link in re.findall(r"http\S+", words)} == set(linked)
            assert str(message["To"]).startswith("user")
            found.append((str(message["Subject"]), words))
        return found


def newest(shop: Shop) -> str:
    """Return the text of the newest mail, and check that it leads to the purchase."""
    [order] = shop.orders()
    text = mails(shop)[-1][1]
    assert f"{shop.settings.base_url}/checkout/{order['number']}" in text
    return text


def test_the_receipt_of_a_card_payment(shop: Shop) -> None:
    user_id = shop.account(paid_tokens=1_000)
    settings = replace(
        shop.settings,
        checkout_tax="inclusive",
        seller_name="Token Works Ltd",
        seller_address=("1 Mill Lane", "Ely"),
        seller_tax_id="GB123456789",
    )
    with shop.app.app_context():
        checkout.start(user_id, "standard", "stripe", settings)
    [order] = shop.orders()
    shop.stripe.pay(order["checkout_id"])
    settle(shop)
    # The seller of the time of the order, whoever sells now.
    later = replace(settings, seller_name="Another Ltd", seller_address=(), seller_tax_id="")
    [(subject, text)] = mails(shop, later)
    paid_on = f"{shop.orders()[0]['credited_at']:%Y-%m-%d}"
    assert subject == "Receipt for your promptly purchase"
    for said in (
        f"receipt {order['number']} paid on {paid_on}",
        "seller Token Works Ltd 1 Mill Lane Ely tax ID GB123456789 customer user",
        "pack standard, 25,000,000 tokens price $2.00, by card tax $0.33, included",
        "balance 25,001,000 tokens",
        f"{shop.settings.base_url}/purchases/{order['number']}/receipt",
    ):
        assert said in text
    assert "Another" not in text and "received" not in text


def test_the_receipt_of_an_overpaid_invoice(shop: Shop) -> None:
    shop.btcpay.pay(shop.order(shop.account(), method="btcpay"), share="1.5")
    settle(shop)
    text = newest(shop)
    assert "price $2.00, in Bitcoin received $3.00 balance" in text
    assert "seller" not in text and "tax" not in text and "test mode" not in text


def test_bitcoin_in_part_and_late(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    until = f"{shop.order_of(page)['expires_at']:%Y-%m-%d %H:%M} UTC"
    shop.btcpay.pay(page, share="0.25")
    settle(shop)
    assert mails(shop)[0][0] == "Your promptly payment is not complete yet"
    assert f"$0.50 of $2.00. Still due: $1.50 (0.00001500 BTC), until {until}" in newest(shop)
    shop.btcpay.advance(31 * 60)
    settle(shop)
    assert f"ran out, on {until}: $0.50 of $2.00 had arrived. Nothing has" in newest(shop)
    assert len(mails(shop)) == 2


def test_bitcoin_that_came_late(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.advance(31 * 60)
    shop.btcpay.pay(page, method="BTC-CHAIN")
    settle(shop)
    assert "arrived after the time to pay had run out" in newest(shop)
    # Whichever way the operator decides, the customer hears of it.
    shop.btcpay.confirm(page)
    settle(shop)
    shop.decide("credit")
    settle(shop)
    assert [subject for subject, _ in mails(shop)][-1] == "Receipt for your promptly purchase"


def test_a_refund_in_bitcoin_is_offered_by_mail(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, share="0.5")
    shop.btcpay.advance(31 * 60)
    settle(shop)
    shop.decide("refund")
    settle(shop)
    [made] = shop.rows("SELECT link, provider_id FROM payment_reversals")
    text = newest(shop)
    assert "We are refunding $1.00 of $2.00" in text and f"share it: {made['link']} " in text
    assert made["link"].startswith(shop.btcpay.url)
    assert "this purchase had not been credited" in text
    count = len(mails(shop))
    shop.btcpay.claim(made["provider_id"])
    shop.btcpay.pay_out(made["provider_id"])
    settle(shop)
    assert len(mails(shop)) == count


def test_a_surplus_is_offered_by_mail(shop: Shop) -> None:
    shop.btcpay.pay(shop.order(shop.account(), method="btcpay"), share="1.5")
    settle(shop)
    shop.decide("refund")
    settle(shop)
    [made] = shop.rows("SELECT link FROM payment_reversals")
    text = newest(shop)
    assert "refunding the surplus of $1.00." in text and f"share it: {made['link']} " in text
    assert "you keep its tokens balance 25,000,000 tokens" in text
    assert len(mails(shop)) == 2


def test_refunds_of_a_card_payment(shop: Shop) -> None:
    page = shop.buy(shop.account())
    settle(shop)
    refund = shop.stripe.refund(shop.stripe.charge_of(page), 50)
    settle(shop)
    text = newest(shop)
    assert "has been refunded: $0.50 of $2.00." in text
    assert "taken back 6,250,000 unspent tokens balance 18,750,000 tokens" in text
    shop.stripe.fail_refund(refund["id"])
    settle(shop)
    text = newest(shop)
    assert "failed. So far, $0.00 of $2.00 has been refunded." in text
    assert "taken back 0 unspent tokens balance 25,000,000 tokens" in text


@pytest.mark.parametrize(
    ("status", "said", "left"),
    [("won", "no longer disputed", "25,000,000"), ("lost", "Your bank has reversed", "0")],
)
def test_disputes(shop: Shop, status: str, said: str, left: str) -> None:
    page = shop.buy(shop.account())
    settle(shop)
    dispute = shop.stripe.open_dispute(shop.stripe.charge_of(page))
    settle(shop)
    text = newest(shop)
    assert "Your bank has disputed the payment" in text
    assert "tokens, $2.00 taken back 25,000,000 tokens balance 0 tokens" in text
    shop.stripe.close_dispute(dispute["id"], status)
    settle(shop)
    text = newest(shop)
    assert said in text and f"balance {left} tokens" in text


def test_bitcoin_that_was_not_paid_after_all(shop: Shop) -> None:
    page = shop.buy(shop.account(), method="btcpay")
    settle(shop)
    shop.btcpay.alter(page, status="Invalid", additional="Marked")
    settle(shop)
    assert "turned out to be invalid" in newest(shop)
