"""A purchase from the click to the credit, with both providers and their webhooks."""

import pytest

from tests.support.shop import Shop

TOKENS = 25_000_000


@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_a_pack_is_bought(shop: Shop, method: str) -> None:
    user_id = shop.account(paid_tokens=7)
    page = shop.buy(user_id, method=method)
    shop.stripe.wait_until_quiet()
    shop.btcpay.wait_until_quiet()
    shop.work()
    order = shop.order_of(page)
    assert (order["state"], order["provider"], order["tokens"]) == ("paid", method, TOKENS)
    assert shop.paid_tokens(user_id) == TOKENS + 7
    assert shop.mails() == ["receipt"]
    assert {row["state"] for row in shop.events()} <= {"handled", "ignored"}
    assert shop.lots(user_id) == [7, TOKENS]
