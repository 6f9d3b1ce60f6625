"""Payments, refunds and keys, with the same event on both machines at the same moment."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest
import urllib3

from sandbox.provider.messages import Signed
from tests.support.books import Account
from tests.support.load import ask
from tests.support.machines import MARKS, Machines
from tests.support.market import TOKENS, Market
from tests.support.process_stack import register, running, until
from tests.support.servers import Gateway

pytestmark = [*MARKS, pytest.mark.alone, pytest.mark.timeout(480)]

ROUNDS = 5


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with running(Machines(tmp_path_factory.mktemp("market") / "stack")) as stack:
        found = Market(stack)
        found.wait_for_worker()
        yield found


@pytest.fixture
def gateways(market: Market) -> list[Gateway]:
    assert isinstance(market.stack, Machines)
    return [machine.gateway for machine in market.stack.machines if machine.gateway is not None]


def at_once(gateways: list[Gateway], call: Callable[[Gateway], str]) -> list[str]:
    """Call with each gateway at the same moment, in threads, and return the results in order."""
    barrier = Barrier(len(gateways))

    def start(gateway: Gateway) -> str:
        barrier.wait(20)
        return call(gateway)

    with ThreadPoolExecutor(len(gateways)) as pool:
        return list(pool.map(start, gateways))


def test_a_webhook_at_both_machines_credits_once(market: Market, gateways: list[Gateway]) -> None:
    urls = [f"{gateway.url}/stripe/webhook" for gateway in gateways]
    market.stripe.set_endpoints([{"url": url} for url in urls])
    for _ in range(ROUNDS):
        account, customer = market.customer()
        assert customer.order("stripe").status_code == 303
        market.pay("stripe")
        until(partial(_has_paid_tokens, market, account), "the credit", 60)
        market.stripe.wait_until_quiet(60)
        # Stripe has sent each event to both; send the last one again, at the same moment.
        signed = market.stripe.signed(market.stripe.messages()[-1]["id"])
        assert at_once(gateways, partial(_send, signed)) == ["200", "200"]
        pending = "SELECT 1 FROM webhook_events WHERE state = 'pending' AND :id IS NOT NULL"
        until(partial(_is_empty, market, pending, account.user_id), "handled events", 60)
        assert market.paid_tokens(account) == TOKENS
    deliveries = Counter(item["message"] for item in market.stripe.attempts())
    assert set(deliveries.values()) == {len(urls)}
    assert {item["status"] for item in market.stripe.attempts()} == {200}
    market.stack.check_books()


def test_a_refund_from_both_machines_is_made_once(market: Market, gateways: list[Gateway]) -> None:
    account, customer = market.customer()
    assert customer.order("stripe").status_code == 303
    market.pay("stripe")
    until(lambda: market.paid_tokens(account) == TOKENS, "the credit", 60)
    [order] = market.stack.books.rows(
        "SELECT id, number FROM orders WHERE user_id = :id", id=account.user_id
    )

    def refund(gateway: Gateway) -> str:
        try:
            return gateway.flask("payments", "refund", order["number"], "--full", "--yes", "--json")
        except AssertionError as refused:
            return str(refused)

    at_once(gateways, refund)
    until(lambda: market.paid_tokens(account) == 0, "the refund", 60)
    market.stripe.wait_until_quiet(60)
    [taken] = market.stack.books.rows(
        "SELECT count(*) AS number, sum(paid_delta) AS tokens FROM ledger_entries"
        " WHERE user_id = :id AND kind = 'purchase_reversed'",
        id=account.user_id,
    )
    assert (taken["number"], int(taken["tokens"])) == (1, -TOKENS)
    [paid] = [item for item in market.stripe.truth() if item["refunded"] > 0]
    assert paid["refunded"] == paid["paid"]
    market.stack.check_books()


def test_keys_reissued_on_both_machines_leave_one(market: Market, gateways: list[Gateway]) -> None:
    rows = market.stack.books.rows
    active = "SELECT 1 FROM api_keys WHERE user_id = :id AND revoked_at IS NULL"
    waiting = "SELECT 1 FROM outbox WHERE user_id = :id AND state = 'pending'"
    for _ in range(ROUNDS):
        account = market.stack.books.account(paid_tokens=10_000)
        email, user_id = account.email, account.user_id
        statuses = at_once(gateways, partial(_register, email))
        assert statuses == ["200", "200"]
        old = [ask(gateway.port, account.key, host=gateway.host).status for gateway in gateways]
        assert old == [401, 401]
        market.stack.mail.wait_for(email, 90)
        until(partial(_is_empty, market, waiting, user_id), "the mails", 90)
        assert len(rows(active, id=user_id)) == 1
    market.stack.check_books()


def _has_paid_tokens(market: Market, account: Account) -> bool:
    return bool(market.paid_tokens(account) >= TOKENS)


def _send(signed: Signed, gateway: Gateway) -> str:
    answer = urllib3.request(
        *("POST", f"{gateway.url}/stripe/webhook"),
        body=signed.body,
        headers=signed.headers,
        retries=False,
        timeout=30,
    )
    return str(answer.status)


def _register(email: str, gateway: Gateway) -> str:
    return str(register(gateway.url, email))


def _is_empty(market: Market, query: str, user_id: int) -> bool:
    return not market.stack.books.rows(query, id=user_id)
