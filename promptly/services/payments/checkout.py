"""Checkout: create the order first, then the provider's page, at most one per attempt.

The order is committed before the provider is called. Without an answer the order stays `created`;
the next try of the same purchase continues it, and reconciliation finds the page or closes the
order.
"""

import logging
import time
from dataclasses import dataclass
from datetime import timedelta

from promptly.clients.provider_errors import ProviderProblem, ProviderRefused, ProviderUnavailable
from promptly.errors import InvalidRequest, NotFound, PaymentRefused, PaymentUnavailable
from promptly.extensions import db
from promptly.models import Order, User
from promptly.models.payments import PROVIDERS
from promptly.packs import Pack
from promptly.services.accounts import accounts
from promptly.services.payments import apply, orders, webhook_inbox
from promptly.services.payments.orders import Leased
from promptly.services.payments.providers import registry
from promptly.services.payments.providers.base import OrderFacts, Provider
from promptly.services.payments.snapshot import Checkout, ProviderSnapshot
from promptly.settings import Settings
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

# A second click within this time leads to the same page.
SAME_PURCHASE = timedelta(minutes=5)

# How long a click waits for the page that another click of the account is creating.
OTHER_CLICK_SECONDS = 3.0
LOOK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True)
class _Taken:
    """An order whose page is to be created, with the holder of its lease."""

    facts: OrderFacts
    holder: str
    email: str
    # Whether an earlier attempt may have created the page.
    was_unanswered: bool

    @classmethod
    def of(cls, lease: Leased) -> "_Taken":
        order = lease.order
        email = db.session.get_one(User, order.user_id).email
        return cls(OrderFacts.of(order), lease.holder, email, order.response_pending)


def start(user_id: int, pack_name: str, provider_name: str, settings: Settings) -> str:
    """Return the URL of the page where this account pays for this pack.

    Opens transactions of its own. Raises InvalidRequest (param `pack`, `method`), NotFound if the
    account is being deleted or gone, PaymentRefused, and PaymentUnavailable if the provider is not
    configured or does not answer within ten seconds.
    """
    pack = _pack(pack_name, settings)
    if provider_name not in PROVIDERS:
        raise InvalidRequest("There is no such way to pay.", param="method")
    if provider_name not in registry.offered(settings):
        raise PaymentUnavailable("This way to pay is not available here.")
    taken = _wait_for(user_id, pack, provider_name, settings)
    if isinstance(taken, str):
        return taken
    facts, holder = taken.facts, taken.holder
    timeout_seconds = registry.CUSTOMER_WAITS_SECONDS
    with registry.connect(provider_name, settings, timeout_seconds) as provider:
        try:
            if taken.was_unanswered and not provider.repeats_safely:
                return _adopted(facts, holder, _find_again(provider, facts))
            url = return_url(facts.number, settings)
            checkout = provider.create(facts, url, taken.email)
        except ProviderProblem as problem:
            _failed(facts, holder, problem)
            raise _error_of(problem) from problem
    return _opened(facts, holder, checkout)


def return_url(number: str, settings: Settings) -> str:
    """Return the URL that the provider's page leads back to."""
    return f"{settings.base_url}/checkout/{number}"


def _pack(name: str, settings: Settings) -> Pack:
    for pack in settings.packs:
        if pack.name == name:
            return pack
    raise InvalidRequest("There is no such pack.", param="pack")


def _begin(user_id: int, pack: Pack, provider: str, settings: Settings) -> Order:
    """Return the order of this purchase: a new one, or the one that was just started."""
    # Clicks of one account run one after the other. A deletion closes the account under this lock.
    accounts.lock(user_id)
    if accounts.is_closed(user_id):
        raise NotFound("There is no such account.")
    currency = settings.packs_currency
    known = orders.newest_unsettled(user_id, pack, currency, provider, within=SAME_PURCHASE)
    if known is not None:
        return known
    livemode = settings.stripe_is_live if provider == "stripe" else True
    return orders.create(user_id, pack, currency, provider, livemode=livemode)


def _wait_for(user_id: int, pack: Pack, provider: str, settings: Settings) -> "str | _Taken":
    """Return the page of this purchase, or the task of creating it.

    While another click creates it, wait: it leads to that page. Raises PaymentUnavailable if that
    takes longer than a few seconds.
    """
    deadline = time.monotonic() + OTHER_CLICK_SECONDS
    while True:
        with transaction():
            taken = _take(_begin(user_id, pack, provider, settings))
        if taken is not None:
            return taken
        if time.monotonic() >= deadline:
            raise PaymentUnavailable()
        time.sleep(LOOK_AGAIN_SECONDS)


def _take(order: Order) -> "str | _Taken | None":
    """Return the page of this purchase if it exists, or lease the order; None if it is leased."""
    if url := _open_page(order):
        return url
    lease = orders.lease(order.id)
    if lease is None:
        return None
    # Check the leased row: another click may have been answered since `order` was read.
    if url := _open_page(lease.order):
        orders.release(lease.order)
        return url
    if lease.order.state != "created":
        raise PaymentUnavailable()
    taken = _Taken.of(lease)
    orders.mark_requested(lease.order)
    return taken


def _open_page(order: Order) -> str | None:
    return order.checkout_url if order.state == "open" else None


def _find_again(provider: Provider, order: OrderFacts) -> ProviderSnapshot:
    """Return the page of an earlier attempt; raise ProviderUnavailable if it is not known yet."""
    found = provider.find(order)
    if found is None:
        raise ProviderUnavailable("an earlier attempt has not been answered")
    return found


def _opened(order: OrderFacts, holder: str, checkout: Checkout) -> str:
    with transaction():
        held = orders.locked_by(order.id, holder)
        if held is not None:
            held.checkout_id, held.checkout_url = checkout.checkout_id, checkout.url
            held.livemode, held.expires_at = checkout.livemode, checkout.expires_at
            held.response_pending = False
            orders.move(held, "open")
            orders.release(held)
            webhook_inbox.wake(held.id)
    return checkout.url


def _adopted(order: OrderFacts, holder: str, found: ProviderSnapshot) -> str:
    with transaction():
        held = orders.locked_by(order.id, holder)
        if held is not None:
            held.response_pending = False
            apply.apply(held, found)
            orders.release(held)
            webhook_inbox.wake(held.id)
        url = None if held is None else _open_page(held)
    if url is None:
        raise PaymentUnavailable()
    return url


def _failed(order: OrderFacts, holder: str, problem: ProviderProblem) -> None:
    with transaction():
        held = orders.locked_by(order.id, holder)
        if held is None:
            return
        if isinstance(problem, ProviderRefused):
            held.response_pending = False
            orders.move(held, "failed")
        elif isinstance(problem, ProviderUnavailable) and problem.answered:
            # The same idempotency key would only repeat this answer.
            held.response_pending = False
            held.attempt += 1
        orders.release(held, problem.reason)
    fields = {"order": order.number, "reason": problem.reason, "code": problem.code}
    logger.warning("no checkout for an order", extra=fields)


def _error_of(problem: ProviderProblem) -> PaymentRefused | PaymentUnavailable:
    if not isinstance(problem, ProviderRefused):
        return PaymentUnavailable()
    because = f" ({problem.code})" if problem.code else ""
    return PaymentRefused(
        f"The payment provider refused this purchase{because}. Nothing was charged. "
        "Please try another way to pay, or contact the operator."
    )
