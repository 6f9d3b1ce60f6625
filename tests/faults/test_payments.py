"""Payments through the whole product, gunicorn and Celery, while other parts are unavailable."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.books import wait_for
from tests.support.machines import KINDS
from tests.support.market import TOKENS, Market
from tests.support.process_stack import running, until

pytestmark = pytest.mark.timeout(480)


@pytest.fixture(params=KINDS)
def market(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Market]:
    with running(request.param(tmp_path / "stack")) as stack:
        yield Market(stack)


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
