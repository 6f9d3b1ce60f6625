from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.models import UsageEvent, User
from promptly.request_ids import public_id
from promptly.services.ledger import verification
from promptly.services.payments import credit
from tests.support import factories


def test_balances_that_add_up(session: Session) -> None:
    user = factories.user(paid_tokens=1000, trial_tokens=200)
    factories.usage_event(user.id, charged_paid=15, charged_trial=20)
    factories.hold(user.id, held_paid=100, held_trial=10)
    factories.user()
    assert verification.verify() == []
    assert verification.count_accounts() == 2


def test_every_wrong_figure_is_named(session: Session) -> None:
    good = factories.user(paid_tokens=5)
    bad = factories.user("bad@example.com", paid_tokens=1000, trial_tokens=200)
    factories.hold(bad.id, held_paid=10, held_trial=10)
    session.execute(
        text("""
            UPDATE balances SET paid_tokens = paid_tokens + 1, trial_tokens = trial_tokens - 1,
                held_paid = held_paid + 2, held_trial = held_trial - 3, open_holds = 7
            WHERE user_id = :id
        """),
        {"id": bad.id},
    )
    found = verification.verify()
    assert {row.figure: row.stored - row.expected for row in found} == {
        "paid_tokens": 1,
        "trial_tokens": -1,
        "held_paid": 2,
        "held_trial": -3,
        "open_holds": 6,
    }
    assert {row.email for row in found} == {"bad@example.com"}
    assert good.id not in {row.user_id for row in found}


def test_every_charge_is_recomputed_from_its_event(session: Session) -> None:
    price_id = session.scalar(
        text("""
            INSERT INTO prices (model, input, cached, output, valid_until)
            VALUES ('dear', 150, 25, 333, now()) RETURNING id
        """)
    )
    assert price_id is not None

    def charge(user: User, tokens: int, price_id: int = price_id) -> UsageEvent:
        return factories.usage_event(
            user.id,
            prompt_tokens=101,
            cached_prompt_tokens=40,
            completion_tokens=7,
            charged_paid=tokens,
            price_id=price_id,
        )

    # 61 * 1.5 + 40 * 0.25 + 7 * 3.33 = 124.81
    good = factories.user(paid_tokens=1000)
    charge(good, 125)
    charge(good, 100).uncharged_tokens = 25
    session.flush()
    assert verification.verify() == []
    bad = factories.user("bad@example.com", paid_tokens=1000)
    first = charge(bad, 124)
    charge(bad, 126)
    # A price that does not exist proves no charge.
    charge(bad, 108, price_id=10**6)
    [found] = verification.verify()
    assert found.email == "bad@example.com"
    assert found.figure == f"charges of 3 requests, the first {public_id(first.request_id)}"
    assert (found.stored, found.expected) == (358, 250)


def test_the_documented_update_stays_clean(session: Session) -> None:
    factories.user("user@example.com", paid_tokens=3)
    session.execute(
        text("""
            UPDATE token_purchases SET paid_tokens = paid_tokens + 1000000
            WHERE user_id = (SELECT id FROM users WHERE email = 'user@example.com')
        """)
    )
    rows = session.execute(
        text("""
            SELECT u.email, u.key_prefix, b.paid_tokens, b.trial_tokens, b.trial_expiry
            FROM users u JOIN token_purchases b ON b.user_id = u.id ORDER BY u.created_at DESC
        """)
    ).all()
    assert rows[0][:4] == ("user@example.com", None, 1_000_003, 0)
    assert verification.verify() == []


def test_orders_and_their_entries_agree(session: Session) -> None:
    user = factories.user()
    good, bad = factories.order(user.id), factories.order(user.id)
    for order in (good, bad):
        credit.credit(order, actor="stripe")
    assert verification.verify() == []
    session.execute(
        text("UPDATE orders SET tokens_taken = 5 WHERE number = :number"), {"number": bad.number}
    )
    [found] = verification.verify()
    assert (found.figure, found.stored, found.expected) == (f"{bad.number} tokens_taken", 5, 0)
    session.execute(
        text("UPDATE orders SET tokens_taken = 0, credited_at = NULL WHERE number = :number"),
        {"number": bad.number},
    )
    [found] = verification.verify()
    assert (found.figure, found.stored, found.expected) == (f"{bad.number} credited", 0, bad.tokens)


def test_a_credit_without_its_entry_is_found(session: Session) -> None:
    user = factories.user()
    order = factories.order(user.id)
    session.execute(text("UPDATE orders SET credited_at = now(), state = 'paid'"))
    [found] = verification.verify()
    assert (found.figure, found.expected) == (f"{order.number} credited", 0)
