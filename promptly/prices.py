"""Prices of tokens by model: the setting PRICES, and the arithmetic of a charge.

A price is in hundredths of a token of the balance, so 100 for each kind of token charges exactly
what was counted. A request's cost is rounded up once, over all of its tokens.
"""

from dataclasses import dataclass, field
from functools import partial

# The price of all models without one of their own.
EVERY_MODEL = "*"
# A thousand tokens of the balance for one.
MOST_HUNDREDTHS = 100_000
MOST_PRICES = 1_000
MOST_NAME_LENGTH = 200
# The largest count that PostgreSQL stores: more output than any limit.
_UNLIMITED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Price:
    """The cost of a token of input, of cached input and of output, in hundredths of a token.

    `id` is the number of its version in the database, 0 for a price that is not from there.
    """

    input: int
    cached: int
    output: int
    id: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.input}:{self.cached}:{self.output}"

    def in_tokens(self) -> dict[str, str]:
        """Return what a token of each kind costs in tokens, as exact decimals: `"1.5"`."""
        return {
            "input": _decimal(self.input),
            "cached_input": _decimal(self.cached),
            "output": _decimal(self.output),
        }

    @property
    def dearest_input(self) -> int:
        """The most that a token of the prompt can cost, cached or not."""
        return max(self.input, self.cached)

    @property
    def cheapest_input(self) -> int:
        """The least that a token of the prompt can cost, cached or not."""
        return min(self.input, self.cached)

    def prompt(self, tokens: int, cached: int) -> int:
        """Return the cost of a prompt in hundredths; `cached` of its tokens were cached."""
        return (tokens - cached) * self.input + cached * self.cached

    def cost(self, prompt_tokens: int, cached_tokens: int, output_tokens: int) -> int:
        """Return the charge for these counts, in tokens."""
        return rounded_up(self.prompt(prompt_tokens, cached_tokens) + output_tokens * self.output)

    def bound(self, prompt_tokens: int, output_tokens: int) -> int:
        """Return the most that these counts can cost, however much was cached, in tokens."""
        return rounded_up(prompt_tokens * self.dearest_input + output_tokens * self.output)

    def output_for(self, hundredths: int) -> int:
        """Return how many tokens of output so much pays: as good as unlimited if they are free."""
        if hundredths < 0:
            return 0
        return min(hundredths // self.output, _UNLIMITED) if self.output else _UNLIMITED


# Charges what was counted.
DEFAULT = Price(100, 100, 100, id=1)


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The price of one model, by its name, or of EVERY_MODEL."""

    model: str
    price: Price

    def __str__(self) -> str:
        return f"{self.model}:{self.price}"


def _decimal(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02}".rstrip("0").rstrip(".")


def rounded_up(hundredths: int) -> int:
    """Return the tokens that cover so many hundredths of a token."""
    return -(-hundredths // 100)


def parse_prices(text: str) -> tuple[ModelPrice, ...]:
    """Parse comma-separated prices `model:input:cached:output`, by model; `*` comes first.

    Without a price for `*`, models that are not named have DEFAULT. Raises ValueError saying which
    price is wrong.
    """
    prices: dict[str, Price] = {EVERY_MODEL: DEFAULT}
    named: set[str] = set()
    for item in filter(None, (item.strip() for item in text.split(","))):
        parsed = _parse_one(item)
        if parsed.model in named:
            raise ValueError(f"has two prices for {parsed.model!r}")
        named.add(parsed.model)
        prices[parsed.model] = parsed.price
    if len(prices) > MOST_PRICES:
        raise ValueError(f"must have at most {MOST_PRICES} prices")
    return tuple(ModelPrice(model, prices[model]) for model in sorted(prices, key=_order))


def _order(model: str) -> tuple[bool, str]:
    return model != EVERY_MODEL, model


def _parse_one(item: str) -> ModelPrice:
    # A model's name may have colons itself.
    model, *numbers = (part.strip() for part in item.rsplit(":", 3))
    if len(numbers) != 3:
        raise ValueError(f"must read model:input:cached:output, separated by commas, not {item!r}")
    if not model or len(model) > MOST_NAME_LENGTH or not model.isprintable():
        raise ValueError(f"has a price without a proper model: {item[:MOST_NAME_LENGTH]!r}")
    kinds = ("input", "cached", "output")
    return ModelPrice(model, Price(*map(partial(_hundredths, model), kinds, numbers)))


def _hundredths(model: str, name: str, number: str) -> int:
    # Not int() alone, which takes signs, underscores and digits of other scripts.
    is_short = number.isascii() and number.isdigit() and len(number) <= len(str(MOST_HUNDREDTHS))
    if is_short and int(number) <= MOST_HUNDREDTHS:
        return int(number)
    raise ValueError(
        f"price of {model}: {name} must be a whole number of hundredths of a token"
        f" from 0 to {MOST_HUNDREDTHS}, not {number[:20]!r}"
    )
