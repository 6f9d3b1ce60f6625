"""Accounts and their keys."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, BigId, Created


class User(Base):
    """One account, known by the exact spelling of its e-mail address."""

    __tablename__ = "users"

    id: Mapped[BigId]
    email: Mapped[str] = mapped_column(Text, unique=True)
    # The newest key's first characters: all that is ever shown of a key again.
    key_prefix: Mapped[str | None] = mapped_column(Text)
    # A mail warns when fewer tokens than this are left; none: the installation's; 0: it never does.
    low_balance_tokens: Mapped[int | None] = mapped_column(BigInteger)
    # There have been so many since the last warning: the next fall below is worth a mail.
    low_balance_armed: Mapped[bool] = mapped_column(Boolean, server_default="false")
    # Whether a mail says that a trial ends, and the end that was told last.
    trial_notice: Mapped[bool] = mapped_column(Boolean, server_default="true")
    trial_told_of: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[Created]
    # Its deletion has begun: keys are refused, running requests end, then the row goes.
    closed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint("low_balance_tokens >= 0", name="low_balance_tokens"),
        Index("ix_users_created_at", "created_at", "id"),
        # Nearly always empty, so asking for it at every checkpoint costs nothing.
        Index("ix_users_closed", "id", postgresql_where=text("closed_at IS NOT NULL")),
    )


class ApiKey(Base):
    """A key, stored as a keyed hash; it is good while `revoked_at` is empty."""

    __tablename__ = "api_keys"

    id: Mapped[BigId]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    pepper_version: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    # The mail that carries this key; a mail that is sent again carries another one.
    outbox_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[Created]
    # As of the last roll-up; what was used since is in usage events.
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        Index("ix_api_keys_user_id", "user_id", postgresql_where=text("revoked_at IS NULL")),
    )


class TrialClaim(Base):
    """A mailbox that has had its trial, by keyed hash; it outlives the account."""

    __tablename__ = "trial_claims"

    mailbox_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    claimed_at: Mapped[Created]
