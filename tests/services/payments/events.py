"""Anything that may happen to an account's orders, as steps that a test puts in any order.

A step has a name and a number: which order, case, message or amount it is about. A step that a
provider, or promptly, would refuse does nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from promptly.errors import InvalidRequest, PaymentUnavailable
from promptly.services import account_deletion
from promptly.transactions import transaction
from sandbox.process import SandboxError
from sandbox.provider.process import SimulatedProvider
from tests.services.payments.provider_events import AMOUNTS, BTCPAY, STRIPE, one, subjects
from tests.support import factories
from tests.support.shop import Json, Shop

TABLES = (
    *("payment_reversals", "webhook_events", "payment_cases", "orders", "outbox"),
    *("payment_reconciliations", "sweep_states", "ledger_entries", "usage_events", "holds"),
)
CHOICES = ("refund", "credit", "dismiss", "take_back", "credit_surplus", "refund_all")


@dataclass
class World:
    """An account with its orders' pages, and a page of another installation at each provider."""

    shop: Shop
    user_id: int
    pages: list[str]
    foreign: list[str]
    spent: int = 0
    is_deleted: bool = False

    def apply(self, name: str, number: int) -> None:
        """Apply a step, unless it is refused."""
        page = one(self.pages, number)
        try:
            if name in COMMON:
                COMMON[name](self, number)
            elif page.startswith("cs_") and name in STRIPE:
                STRIPE[name](self.shop, page, number)
            elif not page.startswith("cs_") and name in BTCPAY:
                BTCPAY[name](self.shop, page, number)
        except (SandboxError, InvalidRequest, PaymentUnavailable):
            return

    def end(self) -> None:
        """Let every outage and every running request end, and reconcile until all is compared."""
        for provider in (self.shop.stripe, self.shop.btcpay):
            provider.clear_faults()
        self.shop.age_refunds()
        self.shop.rows("UPDATE balances SET held_paid = 0, held_trial = 0, open_holds = 0")
        self.shop.rows("UPDATE holds SET state = 'settled'")
        for _ in range(2):
            report = self.shop.reconcile()
        assert report["problems"] == [], report
        assert report["changed"] == [], "the first run has changed everything already"

    def at(self, page: str) -> SimulatedProvider:
        return self.shop.stripe if page.startswith("cs_") else self.shop.btcpay


def world(shop: Shop, methods: Sequence[str]) -> World:
    """Return a new account with an order by each method; all webhooks are held from now on."""
    empty(shop)
    foreign = [foreign_page(shop, method) for method in ("stripe", "btcpay")]
    for provider in (shop.stripe, shop.btcpay):
        provider.clear_faults()
        provider.clear_rules()
        provider.set_rule("hold")
    shop.btcpay.set_settings()
    user_id = shop.account()
    packs = ("standard", "starter", "pro")
    pages = [shop.order(user_id, packs[at], method) for at, method in enumerate(methods)]
    return World(shop, user_id, pages, foreign)


def empty(shop: Shop) -> None:
    """Forget the orders of the examples before, and their cases."""
    for table in TABLES:
        shop.rows(f"DELETE FROM {table}")
    shop.rows(
        "UPDATE balances SET paid_tokens = 0, trial_tokens = 0, held_paid = 0, open_holds = 0"
    )
    for provider in (shop.stripe, shop.btcpay):
        provider.reset()
    shop.stripe.set_dashboard(default_tax_percent=20)


def foreign_page(shop: Shop, method: str) -> str:
    """Return a page that another installation created with the same account or store."""
    page = shop.order(shop.account(), method=method)
    if method == "stripe":
        metadata = shop.stripe.object(page)["metadata"]
        shop.stripe.alter(page, metadata=metadata | {"promptly_instance": "another"})
    else:
        metadata = shop.btcpay.invoice(page)["metadata"]
        shop.btcpay.alter(page, metadata=metadata | {"promptlyInstance": "another"})
    shop.rows("DELETE FROM orders")
    return page


# Steps of both providers: the network, the operator, the customer's requests.


def deliver(at: World, number: int) -> None:
    """Deliver one of the messages that are held, old ones too, once or in three copies at once."""
    page = one([*at.pages, *at.foreign], number)
    wanted = subjects(at.shop, page)
    messages = [item["id"] for item in at.at(page).messages() if item["subject"] in wanted]
    if messages:
        at.at(page).deliver(one(messages, number // 3), copies=one((1, 3), number))
        at.shop.work(workers=one((1, 3), number // 2))


def deliver_all(at: World, number: int) -> None:
    """Deliver everything that is held, also for other pages, the newest first or last."""
    for provider in (at.shop.stripe, at.shop.btcpay):
        provider.release(one(("sent", "reversed"), number))
    at.shop.work()


def reconcile(at: World, number: int) -> None:
    at.shop.reconcile()


def decide(at: World, number: int) -> None:
    waiting = [case["id"] for case in at.shop.cases() if case["resolution"] is None]
    if waiting:
        at.shop.decide(one(CHOICES, number), one(waiting, number // len(CHOICES)))


def refund(at: World, number: int) -> None:
    """Refund the unspent tokens, all that is left, or a part."""
    order = at.shop.order_of(one(at.pages, number))
    amount = one((None, 33, 1, order["received_minor"]), number // 3)
    at.shop.refund(order["number"], amount)


def refund_by_hand(at: World, number: int) -> None:
    order = at.shop.order_of(one(at.pages, number))
    at.shop.refund(order["number"], one(AMOUNTS, number // 3), by_hand=True)


def outage(at: World, number: int) -> None:
    """Let the next refund fail, or its answer get lost."""
    values: Json = one(({"status": 503}, {"cut": True, "when": "after"}), number)
    # Stripe's SDK tries three times.
    at.shop.stripe.set_fault("POST /v1/refunds", times=3, **values)
    at.shop.btcpay.set_fault("POST */refund", times=1, **values)


def time_passes(at: World, number: int) -> None:
    at.shop.age_refunds()


def forget_figures(at: World, number: int) -> None:
    """Leave an order as the release before 0012 does: without what came and what went back."""
    at.shop.rows(
        "UPDATE orders SET received_minor = NULL, returned_minor = NULL WHERE checkout_id = :page",
        page=one(at.pages, number),
    )


def spend(at: World, number: int) -> None:
    if at.is_deleted:
        return
    free = at.shop.paid_tokens(at.user_id) - held(at)
    part = min(one((1_000_000, 7_000_001), number), free)
    if part > 0:
        at.shop.spend(at.user_id, part)
        at.spent += part


def hold(at: World, number: int) -> None:
    """Let a request run that holds a part of the tokens."""
    if at.is_deleted or held(at) or at.shop.paid_tokens(at.user_id) < 500_000:
        return
    with at.shop.app.app_context(), transaction():
        factories.hold(at.user_id, held_paid=500_000)


def held(at: World) -> int:
    statement = "SELECT held_paid FROM balances WHERE user_id = :user"
    [balance] = at.shop.rows(statement, user=at.user_id)
    return int(balance["held_paid"])


def delete_account(at: World, number: int) -> None:
    """Delete the account, in one of four cases: most examples go on with it."""
    if number % 4 == 0 and not at.is_deleted:
        with at.shop.app.app_context(), transaction():
            account_deletion.remove(at.user_id)
        at.is_deleted = True


def foreign_events(at: World, number: int) -> None:
    """Let the other installation's customer pay, and its operator refund."""
    card, bitcoin = at.foreign
    if number % 2:
        at.shop.stripe.pay(card)
        at.shop.stripe.refund(at.shop.stripe.charge_of(card), 50)
    else:
        at.shop.btcpay.pay(bitcoin)
        at.shop.btcpay.refund(bitcoin)


COMMON: dict[str, Callable[[World, int], None]] = {
    "deliver": deliver,
    "deliver_all": deliver_all,
    "reconcile": reconcile,
    "decide": decide,
    "refund": refund,
    "refund_by_hand": refund_by_hand,
    "outage": outage,
    "time_passes": time_passes,
    "forget_figures": forget_figures,
    "spend": spend,
    "hold": hold,
    "delete_account": delete_account,
    "foreign_events": foreign_events,
}
