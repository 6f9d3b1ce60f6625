"""Offers: packs, or amounts that customers choose, with the providers where they can be paid."""

from dataclasses import dataclass

from promptly import money
from promptly.errors import InvalidRequest
from promptly.models import Order
from promptly.packs import CUSTOM, Pack, custom_pack, custom_rates
from promptly.services.payments.providers import registry
from promptly.settings import Settings


@dataclass(frozen=True)
class Offer:
    """A pack and the providers where it can be paid.

    `amount` is the decimal number that the form sends for a pack of a chosen amount, else empty.
    """

    name: str
    tokens: int
    price: str
    methods: tuple[str, ...]
    amount: str = ""


@dataclass(frozen=True)
class CustomOffer:
    """The amounts that a customer may choose between, and the rates that they get."""

    currency: str
    least: str
    most: str
    # From which amount on, and the tokens for one unit of the currency.
    rates: tuple[tuple[str, int], ...]
    unit: str
    methods: tuple[str, ...]


def offers(settings: Settings) -> list[Offer]:
    """Return the packs, each with the configured providers that accept a price as small."""
    return [offer_of(pack, settings) for pack in settings.packs]


def offer_of(pack: Pack, settings: Settings) -> Offer:
    """Return a pack as it is offered, whether its amount was chosen or not."""
    currency = settings.packs_currency
    is_custom = settings.pack_custom is not None and pack.name == CUSTOM
    return Offer(
        pack.name,
        pack.tokens,
        pack.price(currency),
        _methods(pack.amount_minor, settings),
        money.decimal_text(pack.amount_minor, currency) if is_custom else "",
    )


def custom_offer(settings: Settings) -> CustomOffer | None:
    """Return the offer to choose an amount, or None if customers may not."""
    amounts, currency = settings.pack_custom, settings.packs_currency
    if amounts is None:
        return None
    rates = custom_rates(amounts, settings.packs, currency)
    return CustomOffer(
        currency=currency,
        least=money.shown(amounts.min_minor, currency),
        most=money.shown(amounts.max_minor, currency),
        rates=tuple((money.shown(start, currency), tokens) for start, tokens in rates),
        unit=money.shown(10 ** money.decimals(currency), currency),
        methods=_methods(amounts.min_minor, settings),
    )


def chosen(name: str, amount: str, settings: Settings) -> Pack:
    """Return the pack of a form; `amount` counts only for a pack of a chosen amount.

    Raises InvalidRequest (param `pack`, `amount`).
    """
    if name == CUSTOM and settings.pack_custom is not None:
        return custom_pack(_amount_minor(amount, settings), settings.packs)
    for pack in settings.packs:
        if pack.name == name:
            return pack
    raise InvalidRequest("There is no such pack.", param="pack")


def offer_again(order: Order, settings: Settings) -> Offer | None:
    """Return the offer of an order's pack or amount as it is now, or None if it is not sold."""
    if order.pack == CUSTOM and order.currency != settings.packs_currency:
        return None
    try:
        amount = money.decimal_text(order.amount_minor, order.currency)
        return offer_of(chosen(order.pack, amount, settings), settings)
    except InvalidRequest:
        return None


def _methods(amount_minor: int, settings: Settings) -> tuple[str, ...]:
    minimum = {"stripe": money.MINIMUM_CHARGE[settings.packs_currency]}
    return tuple(
        name for name in registry.offered(settings) if amount_minor >= minimum.get(name, 0)
    )


def _amount_minor(amount: str, settings: Settings) -> int:
    currency, amounts = settings.packs_currency, settings.pack_custom
    assert amounts is not None
    example = money.decimal_text(amounts.min_minor, currency)
    try:
        amount_minor = money.parse_decimal(amount.strip(), currency)
    except ValueError:
        raise InvalidRequest(
            f"The amount must be a number in {currency}, such as {example}.", param="amount"
        ) from None
    if not amounts.min_minor <= amount_minor <= amounts.max_minor:
        least, most = (
            money.shown(each, currency) for each in (amounts.min_minor, amounts.max_minor)
        )
        raise InvalidRequest(f"The amount must be between {least} and {most}.", param="amount")
    return amount_minor
