"""Our books against the simulators', once everything has been compared."""

from dataclasses import dataclass

from tests.services.payments.events import World
from tests.services.payments.provider_events import by_hand
from tests.support.shop import Json, Shop

# Cases that are not about the money that came for their order's own page.
OTHER_MONEY = {"second_checkout", "invalid", "livemode", "fraud_warning"}


@dataclass(frozen=True)
class Truth:
    """An order's money at its provider: what came, what went back, what the bank withdrew."""

    came: int
    given_back: int
    by_bank: int
    is_paid: bool
    is_withdrawn: bool = False
    # The page still waits for the rest of the money, or for its confirmation.
    is_open: bool = False


def truth_of(shop: Shop, page: str) -> Truth:
    """Return the simulator's figures, and what an operator gave back by hand."""
    minor = by_hand(shop, page)
    if not page.startswith("cs_"):
        found = shop.btcpay.truth_of(page)
        given_back = found["refunded"] + found["promised"] + minor
        settled, withdrawn = found["status"] == "Settled", found["status"] == "Invalid"
        is_open = found["status"] in {"New", "Processing"}
        return Truth(found["settled"], given_back, 0, settled, withdrawn, is_open)
    found, session = shop.stripe.truth_of(page), shop.stripe.object(page)
    order = shop.order_of(page)
    agreed = session["amount_total"] == order["amount_minor"] and session["currency"] == "usd"
    is_paid = session["payment_status"] == "paid" and agreed
    by_bank = found["lost"] + found["withheld"]
    return Truth(found["paid"], found["refunded"] + minor, by_bank, is_paid)


def assert_true(at: World) -> None:
    """Assert that money, tokens and cases of all orders are as the providers' figures want it."""
    taken = credited = 0
    for page in at.pages:
        order, truth = at.shop.read(page), truth_of(at.shop, page)
        assert_money(order, truth)
        assert_tokens(at.shop, order, truth, at.is_deleted)
        assert_cases(at.shop, order, truth)
        credited += order["tokens"] if order["credited_at"] is not None else 0
        taken += order["tokens_taken"]
    if not at.is_deleted:
        assert at.shop.paid_tokens(at.user_id) == credited - taken - at.spent
    assert_foreign_pages_untouched(at)
    assert at.shop.differences() == []


def assert_money(order: Json, truth: Truth) -> None:
    """Assert that no more went back than came, except by the bank, and that the books say so."""
    assert 0 <= truth.given_back <= truth.came
    assert order["received_minor"] == truth.came
    assert 0 <= order["credited_surplus_minor"] <= max(0, truth.came - order["amount_minor"])
    assert order["returned_minor"] == min(truth.came, truth.given_back + truth.by_bank)


def assert_tokens(shop: Shop, order: Json, truth: Truth, is_deleted: bool) -> None:
    """Assert that the pack was credited if it was paid, and that its tokens follow the money."""
    if order["credited_at"] is None:
        assert order["tokens_taken"] == order["tokens_owed"] == 0
        assert is_deleted or not truth.is_paid
        return
    active = reversals(shop, order)
    surplus = sum(row["amount_minor"] for row in active if not row["counts"])
    reversed_minor = truth.given_back - surplus + truth.by_bank
    basis = truth.came - surplus
    invalid = any(row["kind"] == "invalidation" for row in active)
    if truth.is_withdrawn and not order["approved"]:
        assert invalid
    if invalid or 0 < basis <= reversed_minor:
        expected = order["tokens"]
    else:
        expected = order["tokens"] * reversed_minor // basis if basis else 0
    if order["user_id"] is not None:
        assert order["tokens_taken"] + order["tokens_owed"] == expected
    if not reversed_minor and not invalid:
        assert order["state"] == "paid"


def assert_cases(shop: Shop, order: Json, truth: Truth) -> None:
    """Assert that money which waits for a decision has an open case, and no other has one."""
    cases = shop.rows("SELECT * FROM payment_cases WHERE order_id = :id", id=order["id"])
    waiting = {case["kind"] for case in cases if case["resolution"] is None}
    dismissed = {case["kind"] for case in cases if case["resolution"] == "dismiss"}
    left = truth.came - truth.given_back - truth.by_bank
    if order["credited_at"] is None:
        own = waiting - OTHER_MONEY
        if truth.is_open:
            assert not own
        elif left > 0:
            assert own or dismissed - OTHER_MONEY, "money came that nobody decides about"
        elif truth.came and truth.given_back == truth.came:
            assert not own, "all of it went back"
            assert order["state"] == "refunded"
        assert (order["state"] == "attention") == bool(own)
    elif order["provider"] == "btcpay" and not truth.is_withdrawn:
        surplus = surplus_of(shop, order, truth)
        if surplus > 0:
            assert "paid_over" in waiting | dismissed, "a surplus that nobody decides about"
        else:
            assert "paid_over" not in waiting


def surplus_of(shop: Shop, order: Json, truth: Truth) -> int:
    """Return what is left of the money beyond the price, less what was credited of it."""
    returned = sum(row["amount_minor"] for row in reversals(shop, order) if not row["counts"])
    left = truth.came - truth.given_back
    bought = order["amount_minor"] + order["credited_surplus_minor"]
    beyond: int = truth.came - returned - bought
    return min(beyond, left)


def reversals(shop: Shop, order: Json) -> list[Json]:
    statement = "SELECT * FROM payment_reversals WHERE active AND order_id = :id"
    return shop.rows(statement, id=order["id"])


def assert_foreign_pages_untouched(at: World) -> None:
    assert {order["checkout_id"] for order in at.shop.orders()} == set(at.pages)
    assert {case["checkout_id"] for case in at.shop.cases()} <= set(at.pages)
