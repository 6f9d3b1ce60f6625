"""Payments through the whole product, gunicorn and Celery, while other parts are unavailable."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.btcpay import SimulatedBTCPay
from sandbox.stripe import SimulatedStripe
from tests.support.books import Account, wait_for
from tests.support.process_stack import ProcessStack, running, until
from tests.support.servers import Gateway

pytestmark = pytest.mark.timeout(480)

TOKENS = 25_000_000


class Customer:
    """A signed-in browser session."""

    def __init__(self, gateway: Gateway, account: Account) -> None:
        self.url = gateway.url
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
    """The product and its two simulated payment providers."""

    def __init__(
        self, stack: ProcessStack, stripe: SimulatedStripe, btcpay: SimulatedBTCPay
    ) -> None:
        self.stack, self.stripe, self.btcpay = stack, stripe, btcpay
        stack.start_background()
        self.gateway = stack.gateway(workers=1)
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


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    with running(ProcessStack(tmp_path / "stack")) as stack:
        stripe = stack.run(SimulatedStripe(retry_seconds=(0.5, 1, 2, 4, 8, 16)))
        btcpay = stack.run(SimulatedBTCPay(retry_seconds=(0.5, 1, 2, 4, 8, 16)))
        stack.variables |= {**stripe.variables(), **btcpay.variables()}
        yield Market(stack, stripe, btcpay)


@pytest.mark.alone
@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_a_pack_is_bought_and_the_receipt_follows_within_seconds(
    market: Market, method: str
) -> None:
    account, customer = market.customer()
    market.wait_for_worker()
    answer = customer.order(method)
    assert answer.status_code == 303
    market.pay(method)
    until(lambda: market.paid_tokens(account) == TOKENS, "the credit", 30)
    market.stack.mail.wait_for(account.email)
    assert market.stack.books.differences() == []
    logs = "\n".join(market.stack.log_texts().values())
    for secret in (*market.stripe.variables().values(), *market.btcpay.variables().values()):
        assert secret.startswith("http") or secret not in logs


@pytest.mark.alone
def test_a_hanging_provider_delays_only_its_customer(market: Market) -> None:
    """With one gunicorn worker, the customer waits ten seconds at most, other requests do not."""
    account, customer = market.customer()
    market.stripe.pause()
    statuses: list[int] = []

    def order() -> None:
        statuses.append(customer.order("stripe").status_code)

    thread = threading.Thread(target=order)
    thread.start()
    answered_meanwhile = 0
    while thread.is_alive():
        assert requests.get(f"{market.gateway.url}/health", timeout=5).status_code == 200
        other = requests.get(f"{market.gateway.url}/v1/balance", headers=account.headers, timeout=5)
        assert other.status_code == 200
        answered_meanwhile += 1
        time.sleep(0.1)
    thread.join()
    market.stripe.resume()
    assert statuses == [503]
    # The last may have been answered after the order; one would be, if they waited for it.
    assert answered_meanwhile > 2
    # Clicking again once Stripe is back reuses the order and creates one page.
    assert customer.order("stripe").status_code == 303
    assert len(market.stack.books.rows("SELECT 1 FROM orders")) == 1
    assert len(market.stripe.truth()) == 1


@pytest.mark.slow
def test_webhooks_are_taken_without_redis_and_applied_when_it_is_back(market: Market) -> None:
    account, customer = market.customer()
    market.wait_for_worker()
    assert customer.order("stripe").status_code == 303
    market.stack.redis.kill()
    market.pay("stripe")
    market.stripe.wait_until_quiet(40)
    assert {item["status"] for item in market.stripe.attempts()} == {200}
    assert market.paid_tokens(account) == 0
    market.stack.redis.start()
    until(lambda: market.paid_tokens(account) == TOKENS, "the credit", 60)


@pytest.mark.slow
def test_webhooks_come_again_when_postgresql_was_away(market: Market) -> None:
    account, customer = market.customer()
    assert customer.order("btcpay").status_code == 303
    market.btcpay.wait_until_quiet(40)
    before = len(market.btcpay.attempts())
    market.stack.shut_postgres_down()
    market.pay_page("btcpay", market.btcpay.truth()[0]["invoice_id"])
    wait_for(lambda: len(market.btcpay.attempts()) > before + 1, "a second attempt", 40)
    assert {item["status"] for item in market.btcpay.attempts()[before:]} == {503}
    market.stack.postgres.start()
    until(lambda: market.paid_tokens(account) == TOKENS, "the credit", 90)


@pytest.mark.slow
def test_a_lost_webhook_is_made_good_by_a_restarted_worker(market: Market) -> None:
    account, customer = market.customer()
    assert customer.order("stripe").status_code == 303
    market.stripe.set_rule("drop")
    market.pay("stripe")
    market.stack.stop_background()
    market.stack.books.rows(
        "UPDATE payment_reconciliations SET finished_at = now() WHERE finished_at IS NULL"
    )
    market.stack.start_background()
    until(lambda: market.paid_tokens(account) == TOKENS, "the credit", 60)
