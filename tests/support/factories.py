"""Factories for rows: they only flush, so wrap calls in `transaction()` to commit."""

import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID

from promptly.extensions import db
from promptly.models import (
    ApiKey,
    Balance,
    Hold,
    LedgerEntry,
    Order,
    OutboxMail,
    PriceVersion,
    UsageEvent,
    User,
)
from promptly.request_ids import new_request_id
from promptly.services.accounts import key_format
from promptly.services.payments import orders
from tests.support.servers import make_settings

_numbers = itertools.count(1)


def user(
    email: str | None = None,
    *,
    paid_tokens: int = 0,
    trial_tokens: int = 0,
    trial_expires_at: datetime | None = None,
) -> User:
    """Create an account whose balance equals its ledger entries."""
    row = User(email=email or f"user{next(_numbers)}@example.com")
    db.session.add(row)
    db.session.flush()
    if trial_tokens and trial_expires_at is None:
        trial_expires_at = datetime.now(UTC) + timedelta(days=7)
    db.session.add(
        Balance(
            user_id=row.id,
            paid_tokens=paid_tokens,
            trial_tokens=trial_tokens,
            trial_expires_at=trial_expires_at,
        )
    )
    if paid_tokens or trial_tokens:
        db.session.add(
            LedgerEntry(
                user_id=row.id,
                kind="adjustment",
                paid_delta=paid_tokens,
                trial_delta=trial_tokens,
                actor="test",
            )
        )
    db.session.flush()
    return row


def api_key(user_id: int, name: str = "default") -> tuple[ApiKey, str]:
    """Create a valid key of an account; return its row and the raw key."""
    raw = key_format.generate()
    pepper = make_settings().key_pepper.reveal()
    row = ApiKey(
        user_id=user_id,
        name=name,
        prefix=key_format.prefix(raw),
        key_hash=key_format.digest(raw, pepper),
    )
    db.session.add(row)
    db.session.flush()
    return row, raw


def hold(user_id: int, *, held_paid: int = 0, held_trial: int = 0) -> Hold:
    """Create an open hold and add it to the balance's held parts."""
    row = Hold(
        request_id=new_request_id(),
        user_id=user_id,
        held_paid=held_paid,
        held_trial=held_trial,
        endpoint="chat.completions",
        model="test-model",
    )
    db.session.add(row)
    balance = db.session.get_one(Balance, user_id)
    balance.held_paid += held_paid
    balance.held_trial += held_trial
    balance.open_holds += 1
    db.session.flush()
    return row


def _request_id(at: datetime) -> UUID:
    """Return a request id of that time: receipts are looked up around the time in the id."""
    milliseconds = int(at.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | new_request_id().int & (1 << 80) - 1)


def usage_event(
    user_id: int,
    *,
    created_at: datetime | None = None,
    model: str = "test-model",
    outcome: str = "completed",
    key_id: int | None = None,
    endpoint: str = "chat.completions",
    prompt_tokens: int | None = None,
    cached_prompt_tokens: int = 0,
    completion_tokens: int | None = None,
    charged_paid: int = 0,
    charged_trial: int = 0,
    price_id: int = 1,
) -> UsageEvent:
    """Create a usage event and charge the balance for it.

    By default its counts are those that were charged, or 10 and 5 if nothing was.
    """
    charged = charged_paid + charged_trial or 15
    if completion_tokens is None:
        completion_tokens = min(charged, 5)
    if prompt_tokens is None:
        prompt_tokens = max(charged - completion_tokens, 0)
    balance = db.session.get_one(Balance, user_id)
    balance.paid_tokens -= charged_paid
    balance.trial_tokens -= charged_trial
    created_at = created_at or datetime.now(UTC)
    row = UsageEvent(
        request_id=_request_id(created_at),
        created_at=created_at,
        user_id=user_id,
        key_id=key_id,
        endpoint=endpoint,
        model=model,
        outcome=outcome,
        prompt_tokens=prompt_tokens,
        cached_prompt_tokens=cached_prompt_tokens,
        completion_tokens=completion_tokens,
        charged_paid=charged_paid,
        charged_trial=charged_trial,
        uncharged_tokens=0,
        balance_tokens=balance.paid_tokens + balance.trial_tokens,
        time_to_first_token_ms=20,
        duration_ms=100,
        price_id=price_id,
    )
    db.session.add(row)
    db.session.flush()
    return row


def price(input_: int, cached: int, output: int) -> int:
    """Create a version of a price that has ended; return its number."""
    now = datetime.now(UTC)
    row = PriceVersion(
        model="ended",
        input=input_,
        cached=cached,
        output=output,
        valid_from=now,
        valid_until=now,
    )
    db.session.add(row)
    db.session.flush()
    return row.id


def mail(
    kind: str = "new_key", *, user_id: int | None = None, recipient: str = "a@b.example"
) -> OutboxMail:
    """Create a pending mail in the outbox."""
    row = OutboxMail(kind=kind, user_id=user_id, recipient=recipient)
    db.session.add(row)
    db.session.flush()
    return row


def order(
    user_id: int | None,
    *,
    tokens: int = 1000,
    amount_minor: int = 200,
    provider: str = "stripe",
    state: str = "open",
) -> Order:
    """Create an order with a checkout page; Stripe orders are in test mode."""
    number = next(_numbers)
    row = Order(
        number=orders.new_number(),
        user_id=user_id,
        pack="standard",
        tokens=tokens,
        amount_minor=amount_minor,
        currency="USD",
        provider=provider,
        livemode=provider != "stripe",
        state=state,
        checkout_id=f"cs_{number}",
        checkout_url=f"https://pay.example.com/{number}",
        expires_at=datetime.now(UTC) + timedelta(hours=2),
    )
    db.session.add(row)
    db.session.flush()
    db.session.refresh(row)
    return row
