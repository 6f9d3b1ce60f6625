"""Accounts and their keys."""

from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, BigId, Created, Tokens
from promptly.models.states import KeyScope, State, one_of


class User(Base):
    """One account, known by the exact spelling of its email address."""

    __tablename__ = "users"

    id: Mapped[BigId]
    email: Mapped[str] = mapped_column(Text, unique=True)
    # The newest key's first characters: the only part of a key that is ever shown again.
    key_prefix: Mapped[str | None] = mapped_column(Text)
    # Threshold of the low-balance mail; NULL: the installation's; 0: no mail.
    low_balance_tokens: Mapped[int | None] = mapped_column(BigInteger)
    # The balance has reached the threshold since the last mail, so the next fall sends another.
    low_balance_armed: Mapped[bool] = mapped_column(Boolean, server_default="false")
    # Whether to send a mail before a trial ends, and the end that was announced last.
    trial_notice: Mapped[bool] = mapped_column(Boolean, server_default="true")
    trial_told_of: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Registered on a day without trials left: registering again later grants it.
    trial_deferred: Mapped[bool] = mapped_column(Boolean, server_default="false")
    # The folding under which the mailbox is in trial_claims; see email_addresses.FOLDING.
    mailbox_folding: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    # Whether to send a mail about new keys, and sign-ins from a new network.
    security_notice: Mapped[bool] = mapped_column(Boolean, server_default="true")
    # NULL also if all sign-ins were before releases recorded them.
    first_sign_in_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Limits of its own in place of the installation's; NULL: the installation's.
    requests_per_minute: Mapped[int | None] = mapped_column(Integer)
    concurrent_requests: Mapped[int | None] = mapped_column(Integer)
    # While set, its keys are refused and its running requests end.
    suspended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[Created]
    # Start of its deletion: keys are refused, running requests end, then the row is removed.
    closed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint("low_balance_tokens >= 0", name="low_balance_tokens"),
        CheckConstraint("requests_per_minute > 0", name="requests_per_minute"),
        CheckConstraint("concurrent_requests > 0", name="concurrent_requests"),
        Index("ix_users_created_at", "created_at", "id"),
        # Nearly always empty, so querying it at every checkpoint costs nothing.
        Index("ix_users_closed", "id", postgresql_where=text("closed_at IS NOT NULL")),
        Index("ix_users_suspended", "id", postgresql_where=text("suspended_at IS NOT NULL")),
        # Read every few seconds by each process: accounts with a rate of their own are few.
        Index(
            "ix_users_requests_per_minute",
            "id",
            postgresql_where=text("requests_per_minute IS NOT NULL"),
        ),
        # Empty once the accounts of earlier versions are recorded under the present folding.
        Index("ix_users_mailbox_folding", "id", postgresql_where=text("mailbox_folding < 2")),
    )


class ApiKey(Base):
    """An API key, stored as a keyed hash; valid while `revoked_at` is empty.

    A key that was imported and not used since has pepper version 0 and bcrypt's hash.
    """

    __tablename__ = "api_keys"

    id: Mapped[BigId]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scope: Mapped[KeyScope] = mapped_column(State(KeyScope), server_default="full")
    pepper_version: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    # Its requests yield to all others that wait for a slot.
    batch: Mapped[bool] = mapped_column(Boolean, server_default="false")
    # Refused from then on; NULL: never.
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Models that it may use, and networks (CIDR) that it may be used from; NULL: all.
    allowed_models: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    allowed_addresses: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    # The mail that carries this key; a repeated sending carries another key.
    outbox_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[Created]
    # As of the last roll-up; later use is in usage events.
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint(one_of("scope", KeyScope), name="scope"),
        Index("ix_api_keys_user_id", "user_id", postgresql_where=text("revoked_at IS NULL")),
        Index("ix_api_keys_of_account", "user_id"),
        Index(
            "ix_api_keys_imported",
            "prefix",
            postgresql_where=text("pepper_version = 0 AND revoked_at IS NULL"),
        ),
    )


class PepperVersion(Base):
    """A pepper that hashes keys or did, by its fingerprint; version 1 hashes mailboxes, too."""

    __tablename__ = "pepper_versions"

    version: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[Created]


class TrialClaim(Base):
    """A mailbox that has had its trial, by keyed hash; it outlives the account."""

    __tablename__ = "trial_claims"

    mailbox_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    claimed_at: Mapped[Created]


class TrialCount(Base):
    """Trials granted on one day (UTC) to one mail domain, or with an empty domain to all."""

    __tablename__ = "trial_counts"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    domain: Mapped[str] = mapped_column(Text, primary_key=True)
    granted: Mapped[int] = mapped_column(Integer)


class ImportedAccount(Base):
    """An account brought over from another gateway, and the figures last seen there.

    It outlives the account, so that a later import does not bring a deleted account back.
    """

    __tablename__ = "imported_accounts"

    # The account's id in the gateway that it comes from.
    source_id: Mapped[str] = mapped_column(Text, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), unique=True
    )
    key_id: Mapped[int | None] = mapped_column(BigInteger)
    paid_tokens: Mapped[Tokens]
    trial_tokens: Mapped[Tokens]
    # How often an import changed the balance; part of the ledger entries' references.
    entry_count: Mapped[int] = mapped_column(Integer, server_default="0")
    # Usage of earlier days is in the roll-ups.
    usage_until: Mapped[date]
    imported_at: Mapped[Created]
