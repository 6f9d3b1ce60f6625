"""Computed lots, compared with a model that keeps a purse per lot and spends the oldest first."""

import random
from dataclasses import dataclass

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.models import Balance, Order
from promptly.services.ledger import ledger, verification
from promptly.services.payments import credit, lots
from tests.support import factories


@dataclass
class Purse:
    size: int
    left: int
    order: Order | None = None
    taken: int = 0


class Naive:
    """The model: one purse per lot, the oldest spent first."""

    def __init__(self) -> None:
        self.purses: list[Purse] = []

    def spend(self, tokens: int) -> None:
        for purse in self.purses:
            part = min(tokens, purse.left)
            purse.left -= part
            tokens -= part
        assert tokens == 0

    def take(self, purse: Purse, tokens: int) -> None:
        purse.left -= tokens
        purse.taken += tokens

    def give_back(self, purse: Purse, tokens: int) -> None:
        """Restore tokens as if never taken."""
        self.replay(purse, taken=-tokens)

    def replay(self, purse: Purse, *, size: int = 0, taken: int = 0) -> None:
        """Change a purse as if it had always been so: spend again from the oldest on."""
        spent = sum(each.size - each.taken - each.left for each in self.purses)
        purse.size += size
        purse.taken += taken
        for each in self.purses:
            each.left = each.size - each.taken
        self.spend(spent)


@pytest.mark.parametrize("seed", range(25))
def test_lots_are_what_a_purse_for_each_would_hold(session: Session, seed: int) -> None:
    dice = random.Random(seed)
    user = factories.user()
    naive = Naive()
    for _ in range(30):
        step(dice, user.id, naive)
        found = lots.of_account(user.id)
        assert [lot.unspent_tokens for lot in found] == [purse.left for purse in naive.purses]
        assert [lot.taken_tokens for lot in found] == [purse.taken for purse in naive.purses]
    assert verification.verify() == []


def step(dice: random.Random, user_id: int, naive: Naive) -> None:
    """Apply one random event to the account and to the model."""
    tokens = dice.randint(1, 100)
    total = sum(purse.left for purse in naive.purses)
    bought = [purse for purse in naive.purses if purse.order is not None]
    acts = ["buy", "adjust", "sql", "use", "use", "deduct", "take", "take", "restore", "surplus"]
    what = dice.choice(acts)
    if what == "buy":
        order = factories.order(user_id, tokens=tokens)
        assert credit.credit(order, actor="stripe")
        naive.purses.append(Purse(tokens, tokens, order))
    elif what == "adjust":
        ledger.adjust(user_id, tokens, actor="test")
        naive.purses.append(Purse(tokens, tokens))
    elif what == "sql":
        by_sql(user_id, tokens)
        naive.purses.append(Purse(tokens, tokens))
    elif what in {"use", "deduct"} and total:
        tokens = min(tokens, total)
        if what == "use":
            factories.usage_event(user_id, charged_paid=tokens)
        else:
            ledger.adjust(user_id, -tokens, actor="test")
        naive.spend(tokens)
    elif what == "take" and bought:
        purse = dice.choice(bought)
        tokens = min(tokens, purse.left)
        if tokens:
            move(purse.order, tokens, "purchase_reversed")
            naive.take(purse, tokens)
    elif what == "restore" and bought:
        purse = dice.choice(bought)
        tokens = min(tokens, purse.taken)
        if tokens:
            move(purse.order, -tokens, "purchase_restored")
            naive.give_back(purse, tokens)
    elif what == "surplus" and bought:
        purse = dice.choice(bought)
        assert purse.order is not None
        if credit.surplus_tokens(purse.order, 50):
            naive.replay(purse, size=credit.credit_surplus(purse.order, 50, actor="test"))


def by_sql(user_id: int, tokens: int) -> None:
    statement = text("UPDATE token_purchases SET paid_tokens = paid_tokens + :t WHERE user_id = :u")
    db.session.execute(statement, {"t": tokens, "u": user_id})
    db.session.expire_all()


def move(order: Order | None, tokens: int, kind: str) -> None:
    assert order is not None and order.user_id is not None
    order.reversal_count += 1
    ledger.adjust(
        order.user_id,
        -tokens,
        kind=kind,
        reference=f"{order.number}/{order.reversal_count}",
        actor="test",
    )
    order.tokens_taken += tokens
    db.session.flush()


def test_tokens_held_by_running_requests_are_unspent_but_not_free(session: Session) -> None:
    user = factories.user()
    order = factories.order(user.id, tokens=100)
    credit.credit(order, actor="stripe")
    factories.hold(user.id, held_paid=70)
    left = lots.remaining(user.id, order.number, lock=True)
    assert (left.unspent_tokens, left.free_tokens) == (100, 30)


def test_an_account_with_a_thousand_lots_is_one_quick_query(session: Session) -> None:
    user = factories.user()
    other = factories.user(paid_tokens=5)
    session.execute(
        text("""
            INSERT INTO ledger_entries (user_id, kind, paid_delta, actor)
            SELECT :id, 'adjustment', 10, 'test' FROM generate_series(1, 1000)
        """),
        {"id": user.id},
    )
    session.get_one(Balance, user.id).paid_tokens = 25
    session.flush()
    found = lots.of_account(user.id)
    assert [lot.unspent_tokens for lot in found[-4:]] == [0, 5, 10, 10]
    plan = "\n".join(
        session.scalars(text(f"EXPLAIN SELECT * FROM lots WHERE user_id = {other.id}"))
    )
    # The filter by account lies below the window function: only this account's lots are summed.
    assert f"user_id = {other.id}" in plan.partition("WindowAgg")[2]
