"""Bitcoin payments that need a decision, made at the simulated BTCPay."""

from tests.support.shop import Shop

LONG_AGO = 1_700_000_000


def odd_invoice(shop: Shop, kind: str) -> tuple[int, str]:
    """Return an account and its invoice, for which a case of this kind is open."""
    user_id = shop.account()
    page = shop.order(user_id, method="btcpay")
    if kind == "paid_over":
        shop.btcpay.pay(page, share="1.5")
    elif kind == "paid_partial":
        shop.btcpay.pay(page, share="0.5")
        expire(shop, page)
    elif kind == "paid_late":
        expire(shop, page)
        shop.btcpay.pay(page, method="BTC-CHAIN")
    elif kind == "unconfirmed":
        shop.btcpay.pay(page, method="BTC-CHAIN")
        shop.btcpay.alter(page, monitored=LONG_AGO)
        shop.btcpay.advance(0)
    deliver(shop)
    assert [case["kind"] for case in shop.cases()] == [kind]
    return user_id, page


def expire(shop: Shop, page: str) -> None:
    shop.btcpay.alter(page, expires=LONG_AGO)
    shop.btcpay.advance(0)


def deliver(shop: Shop) -> None:
    shop.stripe.wait_until_quiet()
    shop.btcpay.wait_until_quiet()
    shop.work()
