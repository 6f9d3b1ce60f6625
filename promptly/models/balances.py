"""Balances with their held parts, and the ledger of their changes."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, BigId, Created, Tokens


class Balance(Base):
    """One account's tokens; the checks below alone rule out overdrafts."""

    __tablename__ = "balances"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    paid_tokens: Mapped[Tokens]
    trial_tokens: Mapped[Tokens]
    held_paid: Mapped[Tokens]
    held_trial: Mapped[Tokens]
    trial_expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Number of requests that run or wait; exact, because it is counted under the row's lock.
    open_holds: Mapped[int] = mapped_column(Integer, server_default="0")
    # Number of its keys with limits, so that holds of other accounts need not look.
    limited_keys: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        CheckConstraint("limited_keys >= 0", name="limited_keys_counted"),
        CheckConstraint("held_paid >= 0 AND held_paid <= paid_tokens", name="paid_covers_held"),
        CheckConstraint("held_trial >= 0 AND held_trial <= trial_tokens", name="trial_covers_held"),
        CheckConstraint("open_holds >= 0", name="open_holds_counted"),
        # Rows are updated twice per request: room on the page keeps those updates off the index.
        {"postgresql_with": {"fillfactor": "50"}},
    )


class LedgerEntry(Base):
    """One change of a balance that is not a charge for usage; rows are only added."""

    __tablename__ = "ledger_entries"

    id: Mapped[BigId]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(Text)
    paid_delta: Mapped[int] = mapped_column(BigInteger, server_default="0")
    trial_delta: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # The cause of the entry, unique within its kind, so that no act is credited twice.
    reference: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Created]

    __table_args__ = (
        Index("ix_ledger_entries_user_id", "user_id", "id"),
        Index(
            "uq_ledger_entries_kind_reference",
            "kind",
            "reference",
            unique=True,
            postgresql_where=text("reference IS NOT NULL"),
        ),
    )
