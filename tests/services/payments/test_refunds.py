"""Refunds requested by an operator or reported by the provider, also while the account spends."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

import celeryconfig
from promptly.errors import InvalidRequest, NotFound, PromptlyError
from promptly.models.states import Outcome
from promptly.prices import DEFAULT
from promptly.request_ids import new_request_id
from promptly.services import account_deletion, metering
from promptly.services.payments import orders, reconciliation, refunds, webhook_inbox
from promptly.services.payments.orders import Leased
from promptly.services.payments.providers import registry
from promptly.services.payments.refunds import RefundResult
from promptly.transactions import transaction
from tests.support.races import together
from tests.support.shop import Json, Shop

TOKENS, PRICE = 25_000_000, 200
REFUNDS = "POST /v1/refunds"


def bought(shop: Shop, method: str = "stripe", spent: int = 0) -> tuple[int, Json]:
    """Return an account that bought a standard pack and spent `spent` of it, and its order."""
    user_id = shop.account()
    page = shop.buy(user_id, method=method)
    shop.stripe.wait_until_quiet()
    shop.btcpay.wait_until_quiet()
    shop.work()
    if spent:
        shop.spend(user_id, spent)
    return user_id, shop.order_of(page)


def refund(
    shop: Shop, number: str, amount: int | None = None, *, by_hand: bool = False
) -> RefundResult:
    with shop.app.app_context():
        with transaction():
            row = refunds.request_refund(
                number, amount_minor=amount, actor="cli:test", by_hand=by_hand
            )
            row_id = row.id
        done = refunds.execute_refund(row_id, shop.settings)
        assert done is not None
        return done


def execute_refund(shop: Shop, row_id: int) -> RefundResult | None:
    with shop.app.app_context():
        return refunds.execute_refund(row_id, shop.settings)


def figures(shop: Shop, user_id: int) -> tuple[str, int, int, int]:
    """Return the order's state, its tokens taken and owed, and the account's paid tokens."""
    [order] = shop.orders(user_id)
    have = shop.paid_tokens(user_id)
    return order["state"], order["tokens_taken"], order["tokens_owed"], have


@pytest.mark.parametrize(
    ("spent", "amount", "refunded", "state", "taken", "owed"),
    [
        (0, None, PRICE, "refunded", TOKENS, 0),
        (TOKENS // 2, None, 100, "partly_refunded", TOKENS // 2, 0),
        (TOKENS // 2, PRICE, PRICE, "refunded", TOKENS // 2, TOKENS // 2),
        (TOKENS - 300_000, None, 2, "partly_refunded", 250_000, 0),
        (0, 1, 1, "partly_refunded", 125_000, 0),
        (TOKENS, PRICE, PRICE, "refunded", 0, TOKENS),
    ],
)
@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_a_refund_gives_money_back_and_takes_what_is_unspent(
    shop: Shop,
    method: str,
    spent: int,
    amount: int | None,
    refunded: int,
    state: str,
    taken: int,
    owed: int,
) -> None:
    user_id, order = bought(shop, method, spent)
    row = refund(shop, order["number"], amount)
    assert row.active and row.amount_minor == refunded and row.actor == "cli:test"
    assert figures(shop, user_id) == (state, taken, owed, TOKENS - spent - taken)
    if method == "stripe":
        assert shop.stripe.truth_of(order["checkout_id"])["refunded"] == refunded
        shop.stripe.wait_until_quiet()
    else:
        assert shop.btcpay.truth_of(order["checkout_id"])["promised"] == refunded
        assert row.link is not None and row.link.startswith(shop.btcpay.url)
    # The refund's webhooks and a reconciliation change nothing more.
    shop.work()
    assert shop.reconcile()["changed"] == []
    assert figures(shop, user_id) == (state, taken, owed, TOKENS - spent - taken)
    assert shop.mails() == ["receipt", "refund_notice"]


def test_what_cannot_be_refunded(shop: Shop) -> None:
    _user_id, order = bought(shop, spent=TOKENS)
    with pytest.raises(InvalidRequest, match="unspent"):
        refund(shop, order["number"])
    for amount in (0, -5, PRICE + 1):
        with pytest.raises(InvalidRequest) as problem:
            refund(shop, order["number"], amount)
        assert problem.value.param == "amount"
    with pytest.raises(NotFound):
        refund(shop, "P-none")
    refund(shop, order["number"], PRICE)
    with pytest.raises(InvalidRequest):
        refund(shop, order["number"], 1)
    unpaid = shop.account()
    shop.order(unpaid)
    with pytest.raises(InvalidRequest, match="nothing was received"):
        shop.refund(shop.orders(unpaid)[0]["number"])


def test_a_refund_by_hand_is_only_recorded(shop: Shop) -> None:
    user_id, order = bought(shop, "btcpay")
    assert refund(shop, order["number"], 100, by_hand=True).state == "by_hand"
    assert figures(shop, user_id) == ("partly_refunded", TOKENS // 2, 0, TOKENS // 2)
    assert shop.btcpay.truth_of(order["checkout_id"])["promised"] == 0


def test_a_refund_that_fails_later_gives_the_tokens_back(shop: Shop) -> None:
    user_id, order = bought(shop)
    row = refund(shop, order["number"], 100)
    for lowers_charge in (True, False):
        shop.stripe.fail_refund(str(row.provider_id), lowers_charge=lowers_charge)
        shop.stripe.wait_until_quiet()
        shop.work()
        assert figures(shop, user_id) == ("paid", 0, 0, TOKENS)
        row = refund(shop, order["number"], 50)
        assert figures(shop, user_id)[1] == TOKENS // 4


@pytest.mark.parametrize("method", ["stripe", "btcpay"])
@pytest.mark.parametrize(
    ("values", "made"),
    [
        ({"status": 500, "times": 3}, False),
        ({"cut": True, "times": 3}, False),
        ({"cut": True, "when": "after", "times": 3}, True),
        ({"seconds": 1.5, "when": "after"}, True),
        ({"status": 429}, False),
        ({"status": 401}, False),
    ],
    ids=["error", "broken", "answer lost", "slow", "busy", "key refused"],
)
def test_a_refund_without_an_answer_is_continued(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, method: str, values: Json, made: bool
) -> None:
    """The tokens stay taken, and the money is refunded once."""
    user_id, order = bought(shop, method)
    monkeypatch.setattr("promptly.clients.stripe.READ_TIMEOUT_SECONDS", 0.4)
    monkeypatch.setattr("promptly.clients.btcpay.READ_TIMEOUT_SECONDS", 0.4)
    if method == "stripe":
        shop.stripe.set_fault(REFUNDS, **values)
    else:
        shop.btcpay.set_fault("POST /api/v1/stores/*/refund", **{**values, "times": 1})
    row = refund(shop, order["number"])
    assert (row.state, row.response_pending) == ("requested", True) and row.last_error
    assert figures(shop, user_id) == ("refunded", TOKENS, 0, 0)
    with pytest.raises(InvalidRequest, match="on its way"):
        refund(shop, order["number"], 1)
    assert shop.mails() == ["receipt"], "mailed only once it is certain"
    shop.stripe.clear_faults()
    shop.btcpay.clear_faults()
    shop.age_refunds()
    report = shop.reconcile()
    assert report["refunds_finished"] == 1 or made
    assert figures(shop, user_id) == ("refunded", TOKENS, 0, 0)
    [after] = shop.rows("SELECT * FROM payment_reversals")
    assert after["state"] in {"succeeded", "offered"} and after["provider_id"]
    if method == "stripe":
        assert shop.stripe.truth_of(order["checkout_id"])["refunded"] == PRICE
        assert len(shop.stripe.act("objects", kind="refund")) == 1
    else:
        assert shop.btcpay.truth_of(order["checkout_id"])["promised"] == PRICE
        assert after["link"]
    assert shop.mails() == ["receipt", "refund_notice"]


@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_a_refund_that_was_made_meanwhile_is_not_made_again(
    shop: Shop, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconciliation reads it as requested, but gets the lease only after the panel has made it."""
    _, order = bought(shop, method)
    with shop.app.app_context(), transaction():
        row_id = refunds.request_refund(order["number"], amount_minor=50, actor="test").id
    read, made = threading.Event(), threading.Event()
    lease = orders.lease

    def lease_later(order_id: int) -> Leased | None:
        if threading.current_thread() is not threading.main_thread():
            read.set()
            assert made.wait(20)
        return lease(order_id)

    monkeypatch.setattr(orders, "lease", lease_later)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(execute_refund, shop, row_id)
        assert read.wait(20)
        first = execute_refund(shop, row_id)
        made.set()
        second = late.result(timeout=20)
    assert first is not None and first == second
    if method == "stripe":
        assert len(shop.stripe.act("objects", kind="refund")) == 1
    else:
        assert shop.btcpay.truth_of(order["checkout_id"])["promised"] == 50
    assert shop.order_of(order["checkout_id"])["leased_by"] is None


def test_a_refusal_gives_the_tokens_back(shop: Shop) -> None:
    user_id, order = bought(shop)
    # Stripe refuses refunds while a dispute is open; we do not know of this dispute yet.
    shop.stripe.set_rule("drop")
    shop.stripe.open_dispute(shop.stripe.charge_of(order["checkout_id"]))
    row = refund(shop, order["number"])
    assert (row.state, row.active) == ("failed", False) and "charged back" in (row.last_error or "")
    assert figures(shop, user_id) == ("paid", 0, 0, TOKENS)


def test_of_a_deleted_account_the_money_can_still_be_refunded(shop: Shop) -> None:
    user_id, order = bought(shop)
    with shop.app.app_context(), transaction():
        account_deletion.remove(user_id)
    with pytest.raises(InvalidRequest, match="amount"):
        refund(shop, order["number"])
    refund(shop, order["number"], PRICE)
    row = shop.order_of(order["checkout_id"])
    assert (row["user_id"], row["state"], row["tokens_taken"]) == (None, "refunded", 0)
    assert shop.stripe.truth_of(order["checkout_id"])["refunded"] == PRICE


def test_a_removal_and_a_payment_at_once(shop: Shop) -> None:
    """In either order: no deadlock, and the money is either credited or raises a case."""
    for _ in range(5):
        user_id = shop.account()
        page = shop.buy(user_id)
        shop.stripe.wait_until_quiet()

        def remove(user_id: int = user_id) -> None:
            with transaction():
                account_deletion.remove(user_id)

        together(shop.app, remove, shop.work)
        order = shop.order_of(page)
        assert order["user_id"] is None
        assert order["state"] in {"paid", "attention"}
        assert len(shop.cases()) == sum(row["state"] == "attention" for row in shop.orders())


@pytest.mark.parametrize("told_by", ["operator", "webhook", "dispute"])
def test_a_refund_while_fifty_requests_spend(shop: Shop, told_by: str) -> None:
    """The balance never goes below zero; exactly the unspent tokens are taken, the rest is owed."""
    user_id, order = bought(shop, spent=TOKENS - 1000)
    page = order["checkout_id"]
    database = shop.app.extensions["hot_path_database"]

    def request(number: int) -> int:
        dice = random.Random(number)
        try:
            hold = metering.place_hold(
                database,
                request_id=new_request_id(),
                user_id=user_id,
                key_id=1,
                endpoint="chat.completions",
                model="m",
                wanted_tokens=60,
                minimum_tokens=20,
                max_open_holds=1000,
                price=DEFAULT,
                top_up_url="https://example.com",
            )
        except PromptlyError:
            return 0
        charge = metering.settle(
            database,
            metering.Settlement(
                request_id=hold.request_id,
                user_id=user_id,
                key_id=1,
                endpoint="chat.completions",
                model="m",
                outcome=Outcome.COMPLETED,
                prompt_tokens=10,
                cached_prompt_tokens=0,
                completion_tokens=dice.randint(0, hold.held_tokens - 10),
                time_to_first_token_ms=1,
                duration_ms=2,
                price_id=DEFAULT.id,
            ),
        )
        return 0 if charge is None else charge.charged_tokens

    def reverse() -> int:
        if told_by == "operator":
            refund(shop, order["number"], PRICE)
        elif told_by == "webhook":
            shop.stripe.refund(shop.stripe.charge_of(page))
        else:
            shop.stripe.open_dispute(shop.stripe.charge_of(page))
        shop.stripe.wait_until_quiet()
        shop.work()
        return 0

    charged = sum(together(shop.app, reverse, *[partial(request, n) for n in range(50)]))
    # Tokens held during the reversal are free now; reconciliation collects them.
    shop.reconcile()
    [row] = shop.orders(user_id)
    assert 0 <= charged <= 1000
    assert row["tokens_taken"] == 1000 - charged
    assert row["tokens_owed"] == TOKENS - row["tokens_taken"]
    assert shop.paid_tokens(user_id) == 0
    assert shop.differences() == []


def test_calls_to_a_provider_time_out() -> None:
    assert registry.CUSTOMER_WAITS_SECONDS <= 10
    # All calls of a refund together end before its leases, reconciliation before its task's limit.
    assert registry.OPERATOR_WAITS_SECONDS < orders.LEASE_SECONDS < webhook_inbox.LEASE_SECONDS
    assert celeryconfig.task_soft_time_limit > reconciliation.BUDGET_SECONDS
