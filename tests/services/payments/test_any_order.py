"""Copies of one payment's events, delivered at once and in every order.

The simulators know the true state of each payment (`truth_of`).
"""

from itertools import permutations

import pytest

from tests.services.payments.provider_events import subjects
from tests.support.shop import Shop

TOKENS, PRICE = 25_000_000, 200
COPIES = 20


def held(shop: Shop, page: str) -> list[str]:
    """Return the ids of the messages about a page's payment; InvoiceCreated is not about one."""
    provider = shop.stripe if page.startswith("cs_") else shop.btcpay
    wanted = subjects(shop, page)
    announced = [item for item in provider.messages() if item["type"] != "InvoiceCreated"]
    return [item["id"] for item in announced if item["subject"] in wanted]


def expected(shop: Shop, page: str) -> tuple[int, int]:
    """Return the tokens credited, and those reversed of them, according to the simulator."""
    if page.startswith("cs_"):
        found = shop.stripe.truth_of(page)
        reversed_minor = found["refunded"] + found["lost"] + found["withheld"]
        credited = found["paid"] > 0
    else:
        found = shop.btcpay.truth_of(page)
        reversed_minor = PRICE if found["status"] == "Invalid" else 0
        credited = found["status"] == "Settled"
    if not credited:
        return 0, 0
    return TOKENS, TOKENS * min(reversed_minor, PRICE) // PRICE


def assert_true(shop: Shop, user_id: int, page: str) -> None:
    """Assert that our books agree with the simulator's, for a session with the order's price."""
    credited, reversed_tokens = expected(shop, page)
    order = shop.order_of(page)
    assert (order["tokens_taken"], order["tokens_owed"]) == (reversed_tokens, 0)
    assert shop.paid_tokens(user_id) == credited - reversed_tokens
    assert shop.differences() == []


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_twenty_copies_of_each_event_at_once_in_every_order(
    shop: Shop, method: str, order: tuple[int, ...]
) -> None:
    provider = shop.stripe if method == "stripe" else shop.btcpay
    provider.set_rule("hold")
    user_id = shop.account()
    page = shop.buy(user_id, method=method)
    if method == "stripe":
        charge = shop.stripe.charge_of(page)
        shop.stripe.refund(charge, 50)
        dispute = shop.stripe.open_dispute(charge, amount=150)
        shop.stripe.close_dispute(dispute["id"], "won")
    # Three messages: the payment, one in the middle, and the last.
    messages = held(shop, page)
    chosen = [messages[0], messages[len(messages) // 2], messages[-1]]
    for place in order:
        attempts = provider.deliver(chosen[place], copies=COPIES)
        assert [attempt["status"] for attempt in attempts] == [200] * COPIES
        shop.work(workers=4)
        assert_true(shop, user_id, page)
    assert len(shop.events()) == len(set(chosen))
    assert {event["state"] for event in shop.events()} <= {"handled", "ignored"}
