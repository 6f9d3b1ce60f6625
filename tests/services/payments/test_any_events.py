"""For any events of several orders, in any order, the books agree with the providers'.

Webhooks come late, several times, in another order or never; reconciliation runs at any moment.
"""

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.run import EXHAUSTIVE
from tests.services.payments.events import COMMON, world
from tests.services.payments.provider_events import BTCPAY, STRIPE
from tests.services.payments.truths import assert_true
from tests.support.shop import Shop

EXAMPLES = 2000 if EXHAUSTIVE else 12

Steps = list[tuple[str, int]]
# The likelier ones more than once.
OFTEN = ["deliver_all", "deliver_all", "decide", "decide", "refund", "reconcile"]
CARDS = [*COMMON, *OFTEN, *STRIPE, "refund_in_dashboard", "fail_refund", "dispute"]
BITCOIN = [*COMMON, *OFTEN, *BTCPAY, "confirm", "confirm", "expire_invoice", "archive"]
PAYMENTS = {"stripe": ["card", "card", "debit"], "btcpay": ["pay", "pay_part", "pay_over"]}


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[str], Steps]:
    """Return the methods of some orders, and steps, of which the first pays an order."""
    methods = draw(st.sampled_from([["stripe"], ["btcpay"], ["btcpay", "stripe", "btcpay"]]))
    names = (
        CARDS if methods == ["stripe"] else BITCOIN if methods == ["btcpay"] else CARDS + BITCOIN
    )
    numbers = st.integers(0, 23)
    first = (draw(st.sampled_from(PAYMENTS[methods[0]])), len(methods) * draw(st.integers(0, 7)))
    others = draw(st.lists(st.tuples(st.sampled_from(names), numbers), min_size=3, max_size=14))
    return methods, [first, *others]


@pytest.mark.timeout(7200 if EXHAUSTIVE else 300)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not EXHAUSTIVE,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories())
def test_the_books_agree_with_the_providers(shop: Shop, story: tuple[list[str], Steps]) -> None:
    methods, steps = story
    note(f"{methods} {steps}")
    at = world(shop, methods)
    for name, number in steps:
        at.apply(name, number)
    at.end()
    assert_true(at)
