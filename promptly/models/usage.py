"""Holds of running requests, usage events of ended ones, and daily totals.

Neither holds nor usage events have foreign keys: they are written on every request, and an
account's deletion removes them explicitly.
"""

import uuid
from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, foreign, mapped_column, relationship, remote

from promptly.models.base import Base, Created, Moment, Tokens
from promptly.models.prices import PriceVersion
from promptly.models.states import HoldState, Outcome, State, one_of

# Cached tokens are a part of the prompt. Rows from before they were recorded have 0.
CACHED_IN_PROMPT = "cached_prompt_tokens >= 0 AND cached_prompt_tokens <= prompt_tokens"


class Hold(Base):
    """Tokens set aside for one request; it leaves the state `open` once."""

    __tablename__ = "holds"

    request_id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger)
    key_id: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[HoldState] = mapped_column(State(HoldState), server_default="open")
    held_paid: Mapped[Tokens]
    held_trial: Mapped[Tokens]
    # Counts of the last checkpoint, which recovery charges if the process has died.
    prompt_tokens: Mapped[int] = mapped_column(Integer, server_default="0")
    cached_prompt_tokens: Mapped[int] = mapped_column(Integer, server_default="0")
    completion_tokens: Mapped[int] = mapped_column(Integer, server_default="0")
    endpoint: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    price_id: Mapped[int] = mapped_column(Integer, server_default="1")
    created_at: Mapped[Created]
    checkpoint_at: Mapped[Created]

    __table_args__ = (
        CheckConstraint(one_of("state", HoldState), name="state"),
        CheckConstraint("prompt_tokens >= 0 AND completion_tokens >= 0", name="not_negative"),
        CheckConstraint(CACHED_IN_PROMPT, name="cached_in_prompt"),
        # Not partial: PostgreSQL might read all open holds through it to find the one of a request.
        Index("ix_holds_user_id", "user_id"),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    price_version: Mapped[PriceVersion] = relationship(
        primaryjoin=lambda: foreign(Hold.price_id) == remote(PriceVersion.id), viewonly=True
    )


class UsageEvent(Base):
    """One metered request: its counts, and at the same time the ledger record of its charge.

    Partitioned by month of `created_at`, the moment of the settlement.
    """

    __tablename__ = "usage_events"

    request_id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), primary_key=True, server_default=text("now()")
    )
    user_id: Mapped[int] = mapped_column(BigInteger)
    key_id: Mapped[int | None] = mapped_column(BigInteger)
    endpoint: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    outcome: Mapped[Outcome] = mapped_column(State(Outcome))
    prompt_tokens: Mapped[int] = mapped_column(Integer)
    cached_prompt_tokens: Mapped[int] = mapped_column(Integer, server_default="0")
    completion_tokens: Mapped[int] = mapped_column(Integer)
    charged_paid: Mapped[int] = mapped_column(BigInteger)
    charged_trial: Mapped[int] = mapped_column(BigInteger)
    uncharged_tokens: Mapped[int] = mapped_column(BigInteger)
    balance_tokens: Mapped[int] = mapped_column(BigInteger)
    time_to_first_token_ms: Mapped[int | None] = mapped_column(Integer)
    duration_ms: Mapped[int] = mapped_column(Integer)
    price_id: Mapped[int] = mapped_column(Integer, server_default="1")

    __table_args__ = (
        CheckConstraint(
            "prompt_tokens >= 0 AND completion_tokens >= 0 AND charged_paid >= 0"
            " AND charged_trial >= 0 AND uncharged_tokens >= 0",
            name="not_negative",
        ),
        CheckConstraint(CACHED_IN_PROMPT, name="cached_in_prompt"),
        Index("ix_usage_events_user_id", "user_id", "created_at"),
        Index("ix_usage_events_created_at", "created_at", postgresql_using="brin"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )

    # Read with the event; there is no foreign key, which each settlement would have to check.
    price_version: Mapped[PriceVersion] = relationship(
        primaryjoin=lambda: foreign(UsageEvent.price_id) == remote(PriceVersion.id),
        lazy="joined",
        innerjoin=True,
        viewonly=True,
    )


class UsageRollup(Base):
    """Totals of an account's usage of one model on one UTC day, rebuilt from usage events."""

    __tablename__ = "usage_rollups"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[Tokens]
    prompt_tokens: Mapped[Tokens]
    cached_prompt_tokens: Mapped[Tokens]
    completion_tokens: Mapped[Tokens]
    charged_tokens: Mapped[Tokens]

    __table_args__ = (
        CheckConstraint(
            "requests >= 0 AND prompt_tokens >= 0 AND completion_tokens >= 0"
            " AND charged_tokens >= 0",
            name="not_negative",
        ),
        Index("ix_usage_rollups_day", "day"),
    )


class UsageBreakdown(Base):
    """Totals of a UTC day by key, model, endpoint and outcome, rebuilt from usage events.

    Key 0 stands for requests without one.
    """

    __tablename__ = "usage_breakdowns"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    day: Mapped[date] = mapped_column(primary_key=True)
    key_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    endpoint: Mapped[str] = mapped_column(Text, primary_key=True)
    outcome: Mapped[Outcome] = mapped_column(State(Outcome), primary_key=True)
    requests: Mapped[Tokens]
    prompt_tokens: Mapped[Tokens]
    cached_prompt_tokens: Mapped[Tokens]
    completion_tokens: Mapped[Tokens]
    charged_tokens: Mapped[Tokens]

    __table_args__ = (
        CheckConstraint(
            "requests >= 0 AND prompt_tokens >= 0 AND cached_prompt_tokens >= 0"
            " AND completion_tokens >= 0 AND charged_tokens >= 0",
            name="not_negative",
        ),
        Index("ix_usage_breakdowns_day", "day"),
    )


class SweepState(Base):
    """When a periodic task or an import last ran, and until when the task pauses.

    A pause lets live processes report after an outage.
    """

    __tablename__ = "sweep_states"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    last_run_at: Mapped[Moment]
    grace_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
