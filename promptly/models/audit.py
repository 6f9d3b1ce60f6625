"""The audit log: who administered what; append-only."""

from typing import Any

from sqlalchemy import BigInteger, Index, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, BigId, Created


class AuditEntry(Base):
    """One administrative act; it names the account by number only, so it may outlive it."""

    __tablename__ = "audit_entries"

    id: Mapped[BigId]
    # `panel:` or `api:` with the admin key's name, or `cli:` with the system user; and the client's
    # address, if there is one.
    actor: Mapped[str] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(Text)
    # Such as `balance.adjust`.
    action: Mapped[str] = mapped_column(Text)
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    # Another object of the act: a purchase's number, a mail's or an event's id.
    subject: Mapped[str | None] = mapped_column(Text)
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[Created]

    __table_args__ = (
        Index("ix_audit_entries_user_id", "user_id", "id"),
        Index("ix_audit_entries_action", "action", "id"),
    )
