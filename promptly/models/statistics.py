"""Totals that pages read instead of usage events; the roll-up task rebuilds them."""

from datetime import date, datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, Tokens


class AccountActivity(Base):
    """An account's usage in the last 30 days, for listing and sorting accounts."""

    __tablename__ = "account_activity"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    requests: Mapped[Tokens]
    tokens: Mapped[Tokens]
    last_request_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (Index("ix_account_activity_tokens", "tokens", "user_id"),)


class DailyTotal(Base):
    """Usage of all accounts together on one UTC day."""

    __tablename__ = "daily_totals"

    day: Mapped[date] = mapped_column(primary_key=True)
    requests: Mapped[Tokens]
    prompt_tokens: Mapped[Tokens]
    cached_prompt_tokens: Mapped[Tokens]
    completion_tokens: Mapped[Tokens]
    charged_tokens: Mapped[Tokens]
    uncharged_tokens: Mapped[Tokens]
    active_accounts: Mapped[Tokens]
    # Sum of all requests' durations; divided by a day, the average number of running requests.
    duration_ms: Mapped[Tokens]


class DailyOutcome(Base):
    """Number of requests of one UTC day with one outcome."""

    __tablename__ = "daily_outcomes"

    day: Mapped[date] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)


class DailyRevenue(Base):
    """Sales of one UTC day in one currency, live and test mode apart."""

    __tablename__ = "daily_revenue"

    day: Mapped[date] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(Text, primary_key=True)
    livemode: Mapped[bool] = mapped_column(primary_key=True)
    purchases: Mapped[Tokens]
    amount_minor: Mapped[Tokens]
    # The part of it refunded, disputed or otherwise reversed so far.
    reversed_minor: Mapped[Tokens]
