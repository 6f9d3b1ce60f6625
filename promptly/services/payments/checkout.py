"""Checkout: create the order first, then the provider's page, at most one per attempt.

The order is committed before the provider is called. Without an answer the order stays `created`;
the next try of the same purchase continues it, and reconciliation finds the page or closes the
order.
"""

import logging
import time
from dataclasses import dataclass

from promptly.clients.provider_errors import ProviderProblem, ProviderRefused, ProviderUnavailable
from promptly.errors import (
    AccountSuspended,
    InvalidRequest,
    NotFound,
    PaymentRefused,
    PaymentUnavailable,
)
from promptly.extensions import db
from promptly.models import Order, User
from promptly.models.payments import PROVIDERS
from promptly.models.states import OrderState
from promptly.services.accounts import accounts
from promptly.services.payments import apply, clicks, offers, orders, webhook_inbox
from promptly.services.payments.clicks import Click
from promptly.services.payments.orders import Leased
from promptly.services.payments.providers import registry
from promptly.services.payments.providers.base import OrderFacts, Provider
from promptly.services.payments.snapshot import Checkout, ProviderSnapshot
from promptly.settings import Settings
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

# How long a click waits for the page that another click of the account is creating.
OTHER_CLICK_SECONDS = 3.0
LOOK_AGAIN_SECONDS = 0.1

_WITHOUT_PAGE = frozenset({OrderState.CREATED, OrderState.EXPIRED, OrderState.FAILED})


@dataclass(frozen=True)
class _Taken:
    """An order whose page is to be created, with the holder of its lease."""

    facts: OrderFacts
    holder: str
    email: str
    # An earlier attempt may have created the page, and the provider would create another.
    only_find: bool

    @classmethod
    def of(cls, lease: Leased) -> "_Taken":
        order = lease.order
        email = db.session.get_one(User, order.user_id).email
        only_find = order.response_pending and order.provider not in registry.REPEAT_SAFELY
        return cls(OrderFacts.of(order), lease.holder, email, only_find)


def start(
    user_id: int,
    pack_name: str,
    provider_name: str,
    settings: Settings,
    *,
    amount: str = "",
    form_token: str = "",
    again: bool = False,
) -> str:
    """Return the URL of the page where this account pays for this pack.

    If it is paid, or being paid, that is the path of the purchase's own page. `amount` is that of a
    pack whose amount the customer chooses. Opens transactions of its own. Raises InvalidRequest
    (param `pack`, `amount`, `method`, `token`), NotFound if the account is being deleted or gone,
    AccountSuspended, PaymentRefused, and PaymentUnavailable if the provider is not configured or
    does not answer within ten seconds.
    """
    pack = offers.chosen(pack_name, amount, settings)
    if provider_name not in PROVIDERS:
        raise InvalidRequest("There is no such way to pay.", param="method")
    token = clicks.checked_token(form_token)
    if provider_name not in registry.offered(settings):
        raise PaymentUnavailable("This way to pay is not available here.")
    click = Click(user_id, pack, settings.packs_currency, provider_name, token, again)
    taken = _wait_for(click, settings)
    if isinstance(taken, str):
        return taken
    facts, holder = taken.facts, taken.holder
    timeout_seconds = registry.CUSTOMER_WAITS_SECONDS
    with registry.connect(provider_name, settings, timeout_seconds) as provider:
        try:
            if taken.only_find:
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


def _begin(click: Click, settings: Settings) -> Order:
    """Return the order of this click: a new one, or the one that it continues."""
    # Clicks of one account run one after the other. A deletion closes the account under this lock.
    accounts.lock(click.user_id)
    if accounts.is_closed(click.user_id):
        raise NotFound("There is no such account.")
    if accounts.is_suspended(click.user_id):
        raise AccountSuspended.with_contact(settings.support_email)
    known = clicks.known_order(click)
    if known is not None:
        return known
    livemode = settings.stripe_is_live if click.provider == "stripe" else True
    return orders.create(click, livemode=livemode, seller=settings.seller)


def _wait_for(click: Click, settings: Settings) -> "str | _Taken":
    """Return the page of this purchase, or the task of creating it.

    While another click creates it, wait: it leads to that page. Raises PaymentUnavailable if that
    takes longer than a few seconds.
    """
    deadline = time.monotonic() + OTHER_CLICK_SECONDS
    while True:
        with transaction():
            taken = _take(_begin(click, settings))
        if taken is not None:
            return taken
        if time.monotonic() >= deadline:
            raise PaymentUnavailable()
        time.sleep(LOOK_AGAIN_SECONDS)


def _take(order: Order) -> "str | _Taken | None":
    """Return the page of this purchase if it exists, or lease the order; None if it is leased."""
    if page := _page_of(order):
        return page
    lease = orders.lease(order.id)
    if lease is None:
        return None
    # Check the leased row: another click may have been answered since `order` was read.
    if page := _page_of(lease.order):
        orders.release(lease.order)
        return page
    if lease.order.state != "created":
        raise PaymentUnavailable()
    taken = _Taken.of(lease)
    if not taken.only_find:
        orders.mark_requested(lease.order)
    return taken


def _page_of(order: Order) -> str | None:
    """Return where a click on an existing purchase leads, or None if it has no page yet."""
    if order.state == "open":
        return order.checkout_url
    if order.state in _WITHOUT_PAGE:
        return None
    return f"/checkout/{order.number}?known=1"


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
        url = None if held is None else _page_of(held)
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
