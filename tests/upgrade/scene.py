"""Everything of one upgrade: the servers, both releases, and the people who use them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.btcpay import SimulatedBTCPay
from sandbox.checkout import Code
from sandbox.stripe import SimulatedStripe
from tests.support.browser import KEY, Browser
from tests.support.front import Front
from tests.support.kinds import KINDS
from tests.support.process_stack import ProcessStack, running
from tests.upgrade import customers
from tests.upgrade.customers import LINK, Customer
from tests.upgrade.release import Release

# Above the request rates of the load.
NO_LIMIT = {
    "INFERENCE_IP_RATE_LIMIT": 100_000,
    "INFERENCE_USER_RATE_LIMIT": 100_000,
    "REGISTRATION_RATE_LIMIT": 1000,
}
ADMIN_KEY = "the-operator-of-both-releases-0123456789"
METHODS = ("stripe", "btcpay")
RETRIES = (0.5, 1, 2, 4, 8, 16)


@dataclass
class Scene:
    """Two releases behind one address; the people are those of before the upgrade."""

    stack: ProcessStack
    front: Front
    stripe: SimulatedStripe
    btcpay: SimulatedBTCPay
    old: Release
    new: Release
    clients: dict[str, Customer] = field(default_factory=dict)
    """By the kind of request that each of them sends."""
    buyers: dict[str, Customer] = field(default_factory=dict)
    """By payment method; each has an open order."""
    browsers: dict[str, Browser] = field(default_factory=dict)
    """The buyers', by payment method, signed in."""
    operator: Browser | None = None
    link: str = ""
    """The link of a mail that deletes an account."""

    @property
    def everybody(self) -> list[Customer]:
        return [*self.clients.values(), *self.buyers.values()]

    def pay(self, method: str) -> None:
        """Pay the open order of a method."""
        [row] = self.stack.books.rows(
            "SELECT checkout_id FROM orders WHERE provider = :method", method=method
        )
        provider: Any = self.stripe if method == "stripe" else self.btcpay
        provider.pay(row["checkout_id"])


@contextmanager
def prepared(directory: Path, old: Code) -> Iterator[Scene]:
    """Start the servers, on an empty database, and yield both releases, neither of them started."""
    stack = ProcessStack(directory, migrated=False, llama={"embeddings": True})
    with running(stack):
        stripe = stack.run(SimulatedStripe(retry_seconds=RETRIES))
        btcpay = stack.run(SimulatedBTCPay(retry_seconds=RETRIES))
        front = Front()
        stripe.set_endpoint(f"{front.url}/stripe/webhook")
        btcpay.set_webhook(f"{front.url}/btcpay/webhook")
        stack.variables |= {
            **NO_LIMIT,
            **stripe.variables(),
            **btcpay.variables(),
            "BASE_URL": front.url,
            "ADMIN_KEY": ADMIN_KEY,
        }
        before, after = Release("old", old, stack), Release("new", Code(), stack)
        releases = (before, after)
        try:
            yield Scene(stack, front, stripe, btcpay, before, after)
        except BaseException as problem:
            problem.add_note("\n".join(release.log_tails() for release in releases))
            raise
        finally:
            for release in releases:
                release.stop()
            front.close()


def start_old(scene: Scene) -> None:
    """Start the old release alone, on its own schema."""
    scene.old.migrate()
    scene.old.gateway.start()
    scene.old.start_background()
    scene.front.route_to(scene.old.gateway)


def populate(scene: Scene) -> None:
    """Have the old release create accounts, keys, sessions, orders and mails."""
    old, url, mail = scene.old, scene.front.url, scene.stack.mail
    for kind in KINDS:
        scene.clients[kind.name] = customers.create(old, f"{kind.name}@example.com")
    for method in METHODS:
        buyer = scene.buyers[method] = customers.create(old, f"{method}@example.com")
        browser = scene.browsers[method] = Browser(url)
        assert browser.sign_in(buyer.key) == 303
        browser.order(method)
    customers.ask_for_account(url, "newcomer@example.com")
    key = customers.mailed(mail, "newcomer@example.com", KEY)
    user_id = old.flask_json("users", "show", "newcomer@example.com")["user_id"]
    scene.clients["newcomer"] = Customer(user_id, "newcomer@example.com", key, 0)
    leaver = customers.create(old, "leaver@example.com", tokens=0)
    leaving = Browser(url)
    assert leaving.sign_in(leaver.key) == 303
    leaving.ask_for_deletion()
    scene.link = customers.mailed(mail, leaver.email, LINK)
    scene.operator = Browser(url)
    assert scene.operator.sign_in_to_panel(ADMIN_KEY) == 303
    for customer in scene.everybody:
        customer.tokens = customers.balance(url, customer.key)
