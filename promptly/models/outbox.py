"""Mails to send, stored in the same transaction as their cause."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, BigId, Created
from promptly.models.states import MailState, State, one_of


class OutboxMail(Base):
    """One mail; `payload` is the data for its template, never a key."""

    __tablename__ = "outbox"

    id: Mapped[BigId]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    recipient: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    state: Mapped[MailState] = mapped_column(State(MailState), server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_at: Mapped[Created]
    leased_by: Mapped[str | None] = mapped_column(Text)
    leased_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # The mail server's answer, cut short; never the mail itself.
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Created]
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint(one_of("state", MailState), name="state"),
        Index("ix_outbox_due", "next_at", postgresql_where=text("state = 'pending'")),
        Index("ix_outbox_user_id", "user_id"),
        Index("ix_outbox_state", "state", "id"),
    )
