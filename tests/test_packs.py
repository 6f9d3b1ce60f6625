import pytest

from promptly.packs import (
    MOST_PACKS,
    CustomAmounts,
    Pack,
    custom_pack,
    parse_currency,
    parse_custom_amounts,
    parse_packs,
    too_cheap,
)
from promptly.setting_fields import SettingsError
from tests.support.servers import make_settings
from tests.test_settings import built


def test_the_default_packs() -> None:
    settings = make_settings()
    sold = [
        (pack.name, pack.tokens, pack.price(settings.packs_currency)) for pack in settings.packs
    ]
    assert sold == [
        ("starter", 5_000_000, "$0.50"),
        ("standard", 25_000_000, "$2.00"),
        ("pro", 100_000_000, "$6.00"),
    ]


def test_packs_are_read() -> None:
    assert parse_packs(" a:1_000:50 , b-2:7:99,") == (Pack("a", 1000, 50), Pack("b-2", 7, 99))
    assert parse_packs("") == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Big one:5:50", "proper name"),
        (":5:50", "proper name"),
        ("a:5", "name:tokens:price"),
        ("a:5:0.50", "name:tokens:price"),
        ("a:5:50:usd", "name:tokens:price"),
        ("a:0:50", "tokens"),
        ("a:5:0", "cost"),
        ("a:5:-50", "cost"),
        ("a:5:50,a:6:60", "twice"),
        (",".join(f"p{n}:5:50" for n in range(MOST_PACKS + 1)), "at most"),
    ],
)
def test_wrong_packs_are_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_packs(text)


def test_a_price_below_what_cards_can_be_charged() -> None:
    packs = (Pack("tiny", 1, 49), Pack("starter", 1, 50))
    assert "tiny" in (too_cheap(packs, "USD") or "")
    assert too_cheap(packs, "GBP") is None
    assert parse_currency(" eur ") == "EUR"
    with pytest.raises(ValueError, match="USD"):
        parse_currency("XYZ")


def test_startup_names_a_price_that_stripe_would_refuse() -> None:
    with pytest.raises(SettingsError) as problem:
        built(PACKS="tiny:10:49", STRIPE_SECRET_KEY="sk_test_1", LOG_LEVEL="loud")
    assert {text.split()[0] for text in problem.value.problems} == {"PACKS", "LOG_LEVEL"}
    with pytest.raises(SettingsError, match="SEK"):
        built(PACKS_CURRENCY="sek", STRIPE_SECRET_KEY="sk_test_1")
    # Without card payments, no minimum price applies.
    assert built(PACKS="tiny:10:49").packs[0].amount_minor == 49


def test_a_provider_is_offered_only_when_it_is_whole() -> None:
    stripe = {"STRIPE_SECRET_KEY": "rk_live_1", "STRIPE_WEBHOOK_SECRET": "whsec_1"}
    btcpay = {
        "BTCPAY_URL": "https://pay.example.com",
        "BTCPAY_API_KEY": "key",
        "BTCPAY_STORE_ID": "store",
        "BTCPAY_WEBHOOK_SECRET": "secret",
    }
    assert built(**stripe).takes_stripe and built(**stripe).stripe_is_live
    assert built(**btcpay).takes_btcpay and not built(**btcpay).takes_stripe
    assert not built(STRIPE_SECRET_KEY="sk_test_1").stripe_is_live
    for whole, takes in ((stripe, "takes_stripe"), (btcpay, "takes_btcpay")):
        for missing in whole:
            rest = {name: value for name, value in whole.items() if name != missing}
            assert not getattr(built(**rest), takes), missing


def test_amounts_that_customers_choose_are_read() -> None:
    assert parse_custom_amounts(" 1_00 : 50000 ") == CustomAmounts(100, 50_000)
    assert parse_custom_amounts("  ") is None
    for wrong in ("100", "1.00:5.00", "100:200:300", "a:b", ":"):
        with pytest.raises(ValueError, match="min:max"):
            parse_custom_amounts(wrong)
    for wrong in ("0:5", "-1:5", "200:100", "1:100000000"):
        with pytest.raises(ValueError, match="min between 1 and max"):
            parse_custom_amounts(wrong)


def test_below_all_packs_the_smallest_ones_rate_applies() -> None:
    packs = (Pack("large", 3_000, 1_000), Pack("small", 200, 100), Pack("twin", 201, 100))
    bought = [custom_pack(amount, packs).tokens for amount in (1, 99, 100, 999, 1_000, 1_001)]
    # Of packs at the same price, the one with more tokens counts. Never a token more than paid.
    assert bought == [2, 198, 201, 2_007, 3_000, 3_003]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PACK_CUSTOM": "49:500", "STRIPE_SECRET_KEY": "sk_test_1"}, "less than $0.50"),
        ({"PACK_CUSTOM": "100:500", "PACKS": ","}, "needs a pack"),
        ({"PACK_CUSTOM": "100:500", "PACKS": "custom:10:100"}, "a pack named custom"),
        ({"PACK_CUSTOM": "100:500", "PACKS": "a:1:200"}, "$1.00, which buys no token"),
        ({"PACK_CUSTOM": "100:50000", "PACKS": f"a:{2**49}:100"}, "more than"),
        ({"PACK_CUSTOM": "1:300", "PACKS": f"a:{2**49}:1,b:1:300"}, "more than"),
    ],
)
def test_startup_refuses_amounts_that_cannot_be_sold(variables: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as problem:
        built(**variables)
    [found] = problem.value.problems
    assert found.startswith("PACK_CUSTOM ") and said in found
    # Without card payments, no minimum price applies.
    assert built(PACK_CUSTOM="49:500").pack_custom == CustomAmounts(49, 500)


def test_the_seller_of_the_receipts() -> None:
    settings = built(
        SELLER_NAME="Token Works", SELLER_ADDRESS="1 Mill Lane\\nEly\n", SELLER_TAX_ID="GB1"
    )
    assert settings.seller == {
        "name": "Token Works",
        "address": ["1 Mill Lane", "Ely"],
        "tax_id": "GB1",
    }
    assert built().seller is None
    with pytest.raises(SettingsError) as problem:
        built(SELLER_ADDRESS="1 Mill Lane", SELLER_TAX_ID="x" * 201)
    assert [text.split()[0] for text in problem.value.problems] == [
        "SELLER_TAX_ID",
        "SELLER_ADDRESS",
    ]
    with pytest.raises(SettingsError, match="at most 10 lines"):
        built(SELLER_NAME="a", SELLER_ADDRESS="\\n".join("abcdefghijk"))
