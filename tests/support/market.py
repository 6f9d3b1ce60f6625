"""Customers who buy packs from the whole product, gunicorn and Celery, at simulated providers."""

import re
from typing import Any

import requests

from tests.support.books import Account, wait_for
from tests.support.process_stack import ProcessStack, Site

# Between a webhook's deliveries: they go on for longer than any of the tests' outages.
RETRY_SECONDS = (0.5, 1, 2, 4, 8, 16)
# Of the pack that customers order unless told otherwise.
TOKENS = 25_000_000


class Customer:
    """A signed-in browser session."""

    def __init__(self, site: Site, account: Account) -> None:
        self.url = site.url
        self.session = requests.Session()
        self.session.post(f"{self.url}/session", data={"key": account.key}, timeout=20)

    def order(self, method: str, pack: str = "standard") -> requests.Response:
        """Submit the dashboard's checkout form for a pack."""
        page = self.session.get(f"{self.url}/dashboard", timeout=20).text
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
        assert found is not None
        form = {"pack": pack, "method": method, "csrf_token": found.group(1)}
        return self.session.post(
            f"{self.url}/checkout", data=form, allow_redirects=False, timeout=40
        )


class Market:
    """The product of a stack that has started, and its two simulated payment providers."""

    def __init__(self, stack: ProcessStack) -> None:
        self.stack = stack
        self.stripe, self.btcpay = stripe, btcpay = stack.payment_providers(*RETRY_SECONDS)
        stack.start_background()
        self.gateway = stack.site(workers=1)
        stripe.set_endpoint(f"{self.gateway.url}/stripe/webhook")
        btcpay.set_webhook(f"{self.gateway.url}/btcpay/webhook")

    def customer(self) -> tuple[Account, Customer]:
        account = self.stack.books.account(paid_tokens=0)
        return account, Customer(self.gateway, account)

    def wait_for_worker(self) -> None:
        """Wait until the worker has finished its first reconciliation, which checks every order."""
        finished = "SELECT 1 FROM payment_reconciliations WHERE finished_at IS NOT NULL"
        wait_for(lambda: bool(self.stack.books.rows(finished)), "the first reconciliation", 60)

    def pay(self, method: str) -> None:
        """Pay the newest checkout page of a provider."""
        [row] = self.stack.books.rows(
            "SELECT checkout_id FROM orders WHERE provider = :p ORDER BY id DESC LIMIT 1", p=method
        )
        self.pay_page(method, row["checkout_id"])

    def pay_page(self, method: str, page: str) -> None:
        provider: Any = self.stripe if method == "stripe" else self.btcpay
        provider.pay(page)

    def paid_tokens(self, account: Account) -> int:
        return int(self.stack.books.balance(account)["paid_tokens"])
