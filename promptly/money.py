"""Amounts of money: integers in the minor unit of a currency, cents for US dollars.

Only currencies with a known smallest charge can be sold in.
"""

import re

# What Stripe charges at least, in minor units; judged after conversion to the currency that the
# Stripe account settles in, so a price just above may still be refused.
MINIMUM_CHARGE = {
    "AUD": 50,
    "CAD": 50,
    "CHF": 50,
    "CZK": 1500,
    "DKK": 250,
    "EUR": 50,
    "GBP": 30,
    "HKD": 400,
    "JPY": 50,
    "NOK": 300,
    "NZD": 50,
    "PLN": 200,
    "SEK": 300,
    "SGD": 50,
    "USD": 50,
}
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}
_WITHOUT_MINOR_UNIT = frozenset({"JPY"})
_DECIMAL = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,18}))?")


def decimals(currency: str) -> int:
    """How many decimal places the currency has."""
    return 0 if currency in _WITHOUT_MINOR_UNIT else 2


def decimal_text(amount_minor: int, currency: str) -> str:
    """An amount as a decimal number: 200 US cents are `2.00`."""
    places = decimals(currency)
    if places == 0:
        return str(amount_minor)
    whole, part = divmod(amount_minor, 10**places)
    return f"{whole}.{part:0{places}d}"


def parse_decimal(text: str, currency: str) -> int:
    """The minor units of a decimal number; raises ValueError if there is a part of one left."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError("not a decimal number")
    places = decimals(currency)
    fraction = (match[2] or "").ljust(places, "0")
    if fraction[places:].strip("0"):
        raise ValueError(f"finer than the currency {currency}")
    return int(match[1] + fraction[:places])


def shown(amount_minor: int, currency: str) -> str:
    """An amount as people read it: `$2.00`, `2.00 CHF`."""
    number = decimal_text(amount_minor, currency)
    sign = _SIGNS.get(currency)
    return f"{number} {currency}" if sign is None else f"{sign}{number}"
