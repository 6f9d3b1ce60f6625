"""Packs of tokens on sale and their prices, from the settings PACKS and PACKS_CURRENCY."""

import re
from dataclasses import dataclass

from promptly import money

MOST_PACKS = 12
MOST_TOKENS = 2**50
MOST_MINOR = 99_999_999
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Pack:
    """A number of tokens at a price, in minor units of the one currency of all packs."""

    name: str
    tokens: int
    amount_minor: int

    def price(self, currency: str) -> str:
        """Format the price for display."""
        return money.shown(self.amount_minor, currency)


def parse_packs(text: str) -> tuple[Pack, ...]:
    """Parse comma-separated packs `name:tokens:price`, the price in minor units.

    Raises ValueError saying which pack is wrong.
    """
    packs = tuple(_parse_one(item.strip()) for item in text.split(",") if item.strip())
    names = [pack.name for pack in packs]
    if len(names) != len(set(names)):
        raise ValueError("names a pack twice")
    if len(packs) > MOST_PACKS:
        raise ValueError(f"must hold at most {MOST_PACKS} packs")
    return packs


def _parse_one(item: str) -> Pack:
    name, *numbers = (part.strip() for part in item.split(":"))
    if not NAME.fullmatch(name):
        raise ValueError(f"has a pack without a proper name: {item!r}")
    try:
        tokens, amount_minor = (int(number.replace("_", "")) for number in numbers)
    except ValueError:
        raise ValueError(f"pack {name} must read name:tokens:price in minor units") from None
    if not 1 <= tokens <= MOST_TOKENS:
        raise ValueError(f"pack {name} must have between 1 and {MOST_TOKENS} tokens")
    if not 1 <= amount_minor <= MOST_MINOR:
        raise ValueError(f"pack {name} must cost between 1 and {MOST_MINOR} minor units")
    return Pack(name, tokens, amount_minor)


def parse_currency(text: str) -> str:
    """Parse the code of a supported currency; raises ValueError for any other."""
    code = text.strip().upper()
    if code not in money.MINIMUM_CHARGE:
        raise ValueError(f"must be one of {', '.join(sorted(money.MINIMUM_CHARGE))}")
    return code


def too_cheap(packs: tuple[Pack, ...], currency: str) -> str | None:
    """Name the packs priced below the smallest charge by card; None if there are none."""
    minimum = money.MINIMUM_CHARGE[currency]
    found = [pack.name for pack in packs if pack.amount_minor < minimum]
    if not found:
        return None
    return (
        f"pack {', '.join(found)} costs less than {money.shown(minimum, currency)}, "
        "the smallest charge by card"
    )
