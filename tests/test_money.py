import pytest

from promptly import money


@pytest.mark.parametrize(
    ("amount", "currency", "text", "shown"),
    [
        (50, "USD", "0.50", "$0.50"),
        (5, "USD", "0.05", "$0.05"),
        (123456, "EUR", "1234.56", "€1234.56"),
        (600, "CHF", "6.00", "6.00 CHF"),
        (500, "JPY", "500", "¥500"),
    ],
)
def test_amounts_are_written_exactly_and_read_back(
    amount: int, currency: str, text: str, shown: str
) -> None:
    assert money.decimal_text(amount, currency) == text
    assert money.parse_decimal(text, currency) == amount
    assert money.shown(amount, currency) == shown


@pytest.mark.parametrize(("text", "amount"), [("2", 200), ("2.5", 250), ("2.500000", 250)])
def test_fewer_and_more_zeros_mean_the_same(text: str, amount: int) -> None:
    assert money.parse_decimal(text, "USD") == amount


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1,5", "1.001", ".5", "٣", "NaN", "1.0 "])
def test_texts_that_are_not_amounts(text: str) -> None:
    with pytest.raises(ValueError):
        money.parse_decimal(text, "USD")


def test_a_fraction_of_a_yen_is_not_an_amount() -> None:
    with pytest.raises(ValueError, match="finer"):
        money.parse_decimal("1.5", "JPY")
