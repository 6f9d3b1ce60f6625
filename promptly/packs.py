"""Packs of tokens on sale and their prices, from the settings PACKS and PACKS_CURRENCY.

With PACK_CUSTOM customers may also choose an amount: it buys tokens at the rate of the largest pack
that it reaches, below all packs at the rate of the smallest.
"""

import re
from dataclasses import dataclass

from promptly import money

MOST_PACKS = 12
MOST_TOKENS = 2**50
MOST_MINOR = 99_999_999
# The name of a pack for an amount that the customer chose.
CUSTOM = "custom"
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


@dataclass(frozen=True)
class CustomAmounts:
    """The smallest and the largest amount that a customer may choose, in minor units."""

    min_minor: int
    max_minor: int


def custom_pack(amount_minor: int, packs: tuple[Pack, ...]) -> Pack:
    """Return the pack for an amount; its tokens are rounded down. `packs` must not be empty."""
    rate = _rate(amount_minor, packs)
    return Pack(CUSTOM, amount_minor * rate.tokens // rate.amount_minor, amount_minor)


def _rate(amount_minor: int, packs: tuple[Pack, ...]) -> Pack:
    by_size = sorted(packs, key=lambda pack: (pack.amount_minor, pack.tokens))
    reached = [pack for pack in by_size if pack.amount_minor <= amount_minor]
    return reached[-1] if reached else by_size[0]


def custom_rates(
    amounts: CustomAmounts, packs: tuple[Pack, ...], currency: str
) -> list[tuple[int, int]]:
    """Return the rates of chosen amounts: from which amount on, and tokens per unit of currency."""
    unit = 10 ** money.decimals(currency)
    starts = {amounts.min_minor} | {
        pack.amount_minor
        for pack in packs
        if amounts.min_minor < pack.amount_minor <= amounts.max_minor
    }
    found: list[tuple[int, int]] = []
    for start in sorted(starts):
        rate = _rate(start, packs)
        tokens = unit * rate.tokens // rate.amount_minor
        if not found or found[-1][1] != tokens:
            found.append((start, tokens))
    return found


def parse_custom_amounts(text: str) -> CustomAmounts | None:
    """Parse `min:max` in minor units; None for an empty text. Raises ValueError."""
    if not text.strip():
        return None
    try:
        least, most = (int(number.strip().replace("_", "")) for number in text.split(":"))
    except ValueError:
        raise ValueError("must read min:max in minor units, such as 100:50000") from None
    if not 1 <= least <= most <= MOST_MINOR:
        raise ValueError(f"must have a min between 1 and max, and a max up to {MOST_MINOR}")
    return CustomAmounts(least, most)


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


def sale_problems(
    packs: tuple[Pack, ...], amounts: CustomAmounts | None, currency: str, *, by_card: bool
) -> list[str]:
    """Return what is wrong with the packs and amounts together, each with its variable's name."""
    cheap = too_cheap(packs, currency) if by_card else None
    custom = custom_problem(amounts, packs, currency, by_card=by_card) if amounts else None
    found = {"PACKS": cheap, "PACK_CUSTOM": custom}
    return [f"{name} {problem}" for name, problem in found.items() if problem]


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


def custom_problem(
    amounts: CustomAmounts, packs: tuple[Pack, ...], currency: str, *, by_card: bool
) -> str | None:
    """Return why customers cannot choose these amounts, or None if they can."""
    minimum = money.MINIMUM_CHARGE[currency]
    if not packs:
        return "needs a pack in PACKS, whose rate it takes"
    if any(pack.name == CUSTOM for pack in packs):
        return f"cannot be used with a pack named {CUSTOM} in PACKS"
    if by_card and amounts.min_minor < minimum:
        return f"allows less than {money.shown(minimum, currency)}, the smallest charge by card"
    if custom_pack(amounts.min_minor, packs).tokens < 1:
        return f"allows {money.shown(amounts.min_minor, currency)}, which buys no token"
    # Between two packs tokens grow with the amount; a larger pack may have a worse rate.
    ends = {amounts.max_minor} | {
        pack.amount_minor - 1
        for pack in packs
        if amounts.min_minor < pack.amount_minor <= amounts.max_minor
    }
    if any(custom_pack(end, packs).tokens > MOST_TOKENS for end in ends):
        return f"allows an amount that buys more than {MOST_TOKENS} tokens"
    return None
