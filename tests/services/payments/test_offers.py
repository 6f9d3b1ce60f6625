"""Packs and chosen amounts as they are offered, ordered and paid."""

from dataclasses import replace

import pytest

from promptly.errors import InvalidRequest
from promptly.packs import CustomAmounts, Pack
from promptly.services.payments import checkout, offers, orders
from promptly.settings import Settings
from promptly.transactions import transaction
from tests.support.servers import make_settings
from tests.support.shop import Shop
from tests.support.signing import CONFIGURED

AMOUNTS = CustomAmounts(100, 50_000)


def settings(**values: object) -> Settings:
    return make_settings(**CONFIGURED, **{"pack_custom": AMOUNTS, **values})


@pytest.mark.parametrize(
    ("amount", "tokens"),
    [("1.00", 10_000_000), ("1.99", 19_900_000), (" 2 ", 25_000_000), ("5.99", 74_875_000),
     ("6.01", 100_166_666), ("500.00", 8_333_333_333)],
)  # fmt: skip
def test_an_amount_buys_at_the_rate_of_the_largest_pack_that_it_reaches(
    amount: str, tokens: int
) -> None:
    pack = offers.chosen("custom", amount, settings())
    assert (pack.name, pack.tokens) == ("custom", tokens)


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("", "must be a number in USD, such as 1.00"),
        ("ten", "must be a number"),
        ("5,00", "must be a number"),
        ("$5", "must be a number"),
        ("-5", "must be a number"),
        ("1e3", "must be a number"),
        ("5.001", "must be a number"),
        ("0.99", "must be between $1.00 and $500.00"),
        ("500.01", "must be between"),
        ("9" * 15, "must be between"),
        ("9" * 99, "must be a number"),
    ],
)
def test_a_wrong_amount_is_named(amount: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match="The amount") as problem:
        offers.chosen("custom", amount, settings())
    assert problem.value.param == "amount" and said in problem.value.message


def test_a_chosen_amount_is_sold_only_if_the_operator_offers_it() -> None:
    with pytest.raises(InvalidRequest) as problem:
        offers.chosen("custom", "5.00", make_settings(**CONFIGURED))
    assert problem.value.param == "pack"
    assert offers.custom_offer(make_settings(**CONFIGURED)) is None
    # A pack of that name is like any other then.
    packs = (Pack("custom", 10, 200),)
    sold = make_settings(packs=packs, **CONFIGURED)
    assert offers.chosen("custom", "9.99", sold) == packs[0]
    assert offers.offer_of(packs[0], sold).amount == ""


def test_the_offer_names_its_rates_and_ways() -> None:
    offer = offers.custom_offer(settings())
    assert offer is not None
    assert (offer.least, offer.most, offer.unit) == ("$1.00", "$500.00", "$1.00")
    assert offer.rates == (
        ("$1.00", 10_000_000), ("$2.00", 12_500_000), ("$6.00", 16_666_666),
    )  # fmt: skip
    assert offer.methods == ("stripe", "btcpay")
    one_rate = settings(packs=(Pack("a", 100, 100), Pack("b", 200, 200)))
    assert offers.custom_offer(one_rate).rates == (("$1.00", 100),)  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_an_order_keeps_its_amount_and_tokens(shop: Shop, method: str) -> None:
    """Both come from the order's row, whatever the rates are when it is paid."""
    user_id = shop.account()
    sold = replace(shop.settings, pack_custom=AMOUNTS)
    with shop.app.app_context():
        first = checkout.start(user_id, "custom", method, sold, amount="6.01")
        assert checkout.start(user_id, "custom", method, sold, amount="6.01") == first
        assert checkout.start(user_id, "custom", method, sold, amount="6.02") != first
    row = shop.orders()[0]
    assert (row["pack"], row["tokens"], row["amount_minor"]) == ("custom", 100_166_666, 601)
    if method == "stripe":
        session = shop.stripe.pay(row["checkout_id"])
        assert session["amount_total"] == 601
    else:
        shop.btcpay.pay(row["checkout_id"])
        assert shop.btcpay.invoice(row["checkout_id"])["amount"] == "6.01"
    # The shop's own settings do not sell amounts any more.
    shop.reconcile()
    assert shop.paid_tokens(user_id) == 100_166_666
    with shop.app.app_context(), transaction():
        order = orders.find(row["number"])
        assert offers.offer_again(order, shop.settings) is None
        dearer = replace(sold, packs=(Pack("pro", 60_000, 600),))
        again = offers.offer_again(order, dearer)
        assert again is not None
        assert (again.tokens, again.price, again.amount) == (60_100, "$6.01", "6.01")
        assert offers.offer_again(order, replace(sold, packs_currency="EUR")) is None
