"""Amounts of money: integers in the currency's minor unit, cents for US dollars.

Only currencies with a known minimum charge are supported.
"""

import re

# Stripe's minimum charge, in minor units. Stripe applies it after conversion to the account's
# settlement currency, so it may still refuse a price just above.
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
    """Return the number of decimal places of the currency."""
    return 0 if currency in _WITHOUT_MINOR_UNIT else 2


def decimal_text(amount_minor: int, currency: str) -> str:
    """Format an amount as a decimal number: 200 US cents as `2.00`."""
    places = decimals(currency)
    if places == 0:
        return str(amount_minor)
    whole, part = divmod(amount_minor, 10**places)
    return f"{whole}.{part:0{places}d}"


def parse_decimal(text: str, currency: str) -> int:
    """Parse a decimal number into minor units; raises ValueError if malformed or too precise."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError("not a decimal number")
    places = decimals(currency)
    fraction = (match[2] or "").ljust(places, "0")
    if fraction[places:].strip("0"):
        raise ValueError(f"finer than the currency {currency}")
    return int(match[1] + fraction[:places])


def shown(amount_minor: int, currency: str) -> str:
    """Format an amount for display: `$2.00`, `2.00 CHF`."""
    number = decimal_text(amount_minor, currency)
    sign = _SIGNS.get(currency)
    return f"{number} {currency}" if sign is None else f"{sign}{number}"
