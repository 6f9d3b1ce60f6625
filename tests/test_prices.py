"""Prices: the setting, and the arithmetic of charges and limits."""

import random
from fractions import Fraction
from math import ceil

import pytest

from promptly.prices import DEFAULT, MOST_HUNDREDTHS, MOST_PRICES, ModelPrice, Price, parse_prices
from promptly.setting_fields import SettingsError
from tests.support.servers import make_settings
from tests.test_settings import built

EVERYTHING_ELSE = ModelPrice("*", DEFAULT)


def test_the_default_charges_what_is_counted() -> None:
    assert make_settings().prices == (EVERYTHING_ELSE,)
    assert DEFAULT.cost(1234, 200, 56) == DEFAULT.bound(1234, 56) == 1290
    assert DEFAULT.output_for(1290_00 - DEFAULT.prompt(1234, 200)) == 56


@pytest.mark.parametrize(
    ("text", "prices"),
    [
        ("*:150:25:333", [ModelPrice("*", Price(150, 25, 333))]),
        (" qwen : 1 : 2 : 3 ,", [EVERYTHING_ELSE, ModelPrice("qwen", Price(1, 2, 3))]),
        (
            # Names with colons and slashes.
            "qwen3:8b:0:0:0,org/model.gguf:100000:1:2",
            [
                EVERYTHING_ELSE,
                ModelPrice("org/model.gguf", Price(MOST_HUNDREDTHS, 1, 2)),
                ModelPrice("qwen3:8b", Price(0, 0, 0)),
            ],
        ),
    ],
)
def test_prices_are_read(text: str, prices: list[ModelPrice]) -> None:
    assert list(parse_prices(text)) == prices
    assert parse_prices(",".join(map(str, prices))) == tuple(prices)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("qwen", "must read model:input:cached:output, separated by commas, not 'qwen'"),
        ("qwen:1:2", "must read model:input:cached:output"),
        (":1:2:3", "has a price without a proper model: ':1:2:3'"),
        ("a\nb:1:2:3", "has a price without a proper model"),
        ("m:1:2:3,n:1:1:1,m:1:2:3", "has two prices for 'm'"),
        ("*:1:2:3,*:1:2:4", "has two prices for '*'"),
        ("m:-1:2:3", "price of m: input must be a whole number of hundredths of a token"),
        ("m:1:1.5:3", "price of m: cached must be a whole number"),
        ("m:1:2:100001", "price of m: output must be a whole number of hundredths of a token from"),
        ("m:1:2:", "price of m: output must be"),
        ("m:1:2:1_0", "not '1_0'"),
        ("m:1:2:²", "price of m: output must be"),
        (",".join(f"m{n}:1:1:1" for n in range(MOST_PRICES)), "must have at most 1000 prices"),
    ],
)
def test_a_wrong_price_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_prices(text)
    assert problem in str(raised.value)


def test_the_setting_is_named() -> None:
    with pytest.raises(SettingsError) as raised:
        built(PRICES="*:1:2:x")
    assert [line for line in raised.value.problems if line.startswith("PRICES price of *: output")]


def test_arithmetic() -> None:
    dice = random.Random(18)
    rates = [0, 1, 33, 99, 100, 101, 333, MOST_HUNDREDTHS]
    for _ in range(3_000):
        price = Price(*(dice.choice(rates) for _ in range(3)))
        prompt, output, tokens = (dice.randint(0, 5_000) for _ in range(3))
        cached = dice.randint(0, prompt)
        exact = Fraction(
            (prompt - cached) * price.input + cached * price.cached + output * price.output, 100
        )
        assert price.cost(prompt, cached, output) == ceil(exact) <= price.bound(prompt, output)
        most = price.output_for(tokens * 100 - price.prompt(prompt, cached))
        if price.cost(prompt, cached, 0) > tokens:
            assert most == 0
        elif price.output == 0:
            assert most == 2**31 - 1
        else:
            assert price.cost(prompt, cached, most) <= tokens
            assert price.cost(prompt, cached, most + 1) > tokens
