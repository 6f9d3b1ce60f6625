"""Orders, their reversals and cases, webhook events, reconciliation runs, and the installation.

`lots`, the paid credits and how much of each is unspent, is a view (docs/operating/payments.md).
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, BigId, Created, Tokens
from promptly.models.states import CaseKind, EventState, OrderState, State, one_of

UNSETTLED_STATES = (OrderState.CREATED, OrderState.OPEN, OrderState.PROCESSING)
PROVIDERS = ("stripe", "btcpay")


class Order(Base):
    """One purchase of a pack; it outlives the account, then without an owner."""

    __tablename__ = "orders"

    id: Mapped[BigId]
    # The public id for people and providers; it reveals nothing and cannot be guessed.
    number: Mapped[str] = mapped_column(Text, unique=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    pack: Mapped[str] = mapped_column(Text)
    # The pack's, and those of a surplus that was credited.
    tokens: Mapped[int] = mapped_column(BigInteger)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    # Of the page's form: sent twice, it leads to the same order.
    form_token: Mapped[str | None] = mapped_column(Text)
    # The seller's name, address and tax id when it was ordered, for its receipt.
    seller: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    provider: Mapped[str] = mapped_column(Text)
    # False for Stripe's test mode, where no real money moves.
    livemode: Mapped[bool] = mapped_column(Boolean)
    state: Mapped[OrderState] = mapped_column(State(OrderState), server_default="created")
    # Incremented when the provider has answered an attempt with an error of its own.
    attempt: Mapped[int] = mapped_column(Integer, server_default="1")
    # The provider was asked for a page and has not answered; it may have created one anyway.
    response_pending: Mapped[bool] = mapped_column("unanswered", Boolean, server_default="false")
    requested_at: Mapped[Created] = mapped_column("called_at")
    # When the provider's page stops accepting payments.
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # Stripe's checkout session or BTCPay's invoice, its page, and Stripe's payment.
    checkout_id: Mapped[str | None] = mapped_column(Text)
    checkout_url: Mapped[str | None] = mapped_column(Text)
    payment_id: Mapped[str | None] = mapped_column(Text)
    # The page's status in the provider's own terms, as last applied.
    provider_status: Mapped[str | None] = mapped_column(Text)
    credited_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Credited by an operator's decision, against the provider's report.
    approved: Mapped[bool] = mapped_column(Boolean, server_default="false")
    # Credited tokens taken back, and those that could not be taken because they were spent or held.
    tokens_taken: Mapped[Tokens]
    tokens_owed: Mapped[Tokens]
    # Amounts received and given back, in minor units of `paid_in`. None: not read from the provider
    # yet; `payments.funds` has the rules.
    received_minor: Mapped[int | None] = mapped_column(BigInteger)
    returned_minor: Mapped[int | None] = mapped_column(BigInteger)
    # The part of what was received beyond the price that was credited as tokens.
    credited_surplus_minor: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # The currency that was paid, if it is not the order's.
    received_currency: Mapped[str | None] = mapped_column(Text)
    # Bitcoin that the page has seen, confirmed or not, and that it still waits for.
    seen_minor: Mapped[int | None] = mapped_column(BigInteger)
    due_satoshis: Mapped[int | None] = mapped_column(BigInteger)
    # The tax that the price contains, as the provider computed it; None: none was computed.
    tax_minor: Mapped[int | None] = mapped_column(BigInteger)
    # The part of the price that was reversed; and the refunds the customer knows of, of the price
    # and of a surplus.
    reversed_minor: Mapped[int] = mapped_column(BigInteger, server_default="0")
    refunded_minor: Mapped[int] = mapped_column(BigInteger, server_default="0")
    surplus_refunded_minor: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # How often tokens were taken or given back; part of the ledger entries' references.
    reversal_count: Mapped[int] = mapped_column(Integer, server_default="0")
    last_error: Mapped[str | None] = mapped_column(Text)
    # A process that calls the provider about this order holds a lease on it.
    leased_by: Mapped[str | None] = mapped_column(Text)
    leased_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    checked_at: Mapped[Created]
    created_at: Mapped[Created]
    updated_at: Mapped[Created]

    @property
    def is_unsettled(self) -> bool:
        """Whether the order can still be paid in the ordinary way."""
        return self.state in UNSETTLED_STATES

    @property
    def paid_in(self) -> str:
        """The currency of the money that came and went back."""
        return self.received_currency or self.currency

    __table_args__ = (
        CheckConstraint(one_of("state", OrderState), name="state"),
        CheckConstraint(one_of("provider", PROVIDERS), name="provider"),
        CheckConstraint("tokens > 0 AND amount_minor > 0", name="something_for_something"),
        CheckConstraint(
            "tokens_taken >= 0 AND tokens_owed >= 0 AND tokens_taken + tokens_owed <= tokens",
            name="takes_back_at_most_all",
        ),
        CheckConstraint(
            "credited_at IS NOT NULL OR tokens_taken + tokens_owed = 0", name="takes_back_credited"
        ),
        CheckConstraint(
            "reversed_minor >= 0 AND reversed_minor <= amount_minor", name="reverses_at_most_all"
        ),
        CheckConstraint(
            "received_minor >= 0 AND returned_minor >= 0 AND returned_minor <= received_minor",
            name="returns_at_most_received",
        ),
        Index("ix_orders_user_id", "user_id", "id"),
        Index("ix_orders_state", "state", "id"),
        Index(
            "ix_orders_credited_at",
            "credited_at",
            postgresql_where=text("credited_at IS NOT NULL"),
        ),
        Index(
            "ix_orders_unsettled",
            "checked_at",
            postgresql_where=text("state IN ('created', 'open', 'processing')"),
        ),
        Index("ix_orders_owing", "id", postgresql_where=text("tokens_owed > 0")),
        Index(
            "uq_orders_checkout",
            "provider",
            "checkout_id",
            unique=True,
            postgresql_where=text("checkout_id IS NOT NULL"),
        ),
        Index(
            "uq_orders_payment",
            "provider",
            "payment_id",
            unique=True,
            postgresql_where=text("payment_id IS NOT NULL"),
        ),
    )


class PaymentReversal(Base):
    """A refund, a dispute, or Bitcoin that turned out not to have been paid.

    `amount_minor` is this reversal's own; it counts while `active`. `state` is the provider's
    term, or `requested` while a refund of ours has not been answered yet.
    """

    __tablename__ = "payment_reversals"

    id: Mapped[BigId]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    # The case that this refund decides; it reopens if the refund does not succeed.
    case_id: Mapped[int | None] = mapped_column(ForeignKey("payment_cases.id"))
    kind: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    provider_id: Mapped[str | None] = mapped_column(Text)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    # False for a refunded surplus: the purchase itself stays paid.
    counts: Mapped[bool] = mapped_column(Boolean, server_default="true")
    state: Mapped[str] = mapped_column(Text)
    active: Mapped[bool] = mapped_column(Boolean)
    # The page where the customer enters the address for a Bitcoin refund.
    link: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    # The provider was asked for this refund and has not answered; it may have made it anyway.
    response_pending: Mapped[bool] = mapped_column("unanswered", Boolean, server_default="false")
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Created]
    updated_at: Mapped[Created]

    __table_args__ = (
        CheckConstraint(one_of("kind", ("refund", "dispute", "invalidation")), name="kind"),
        CheckConstraint("amount_minor > 0", name="amount"),
        Index("ix_payment_reversals_order_id", "order_id"),
        Index(
            "uq_payment_reversals_provider_id",
            "provider",
            "provider_id",
            unique=True,
            postgresql_where=text("provider_id IS NOT NULL"),
        ),
        Index(
            "ix_payment_reversals_requested",
            "id",
            postgresql_where=text("state = 'requested'"),
        ),
        Index(
            "ix_payment_reversals_offered",
            "order_id",
            postgresql_where=text("state IN ('offered', 'claimed')"),
        ),
    )


class PaymentCase(Base):
    """A payment that needs an operator's decision; decided once."""

    __tablename__ = "payment_cases"

    id: Mapped[BigId]
    # None: money came for an order that is not in this database, or was not when it came.
    order_id: Mapped[int | None] = mapped_column(ForeignKey("orders.id"))
    provider: Mapped[str] = mapped_column(Text)
    # The checkout in question, not necessarily the order's own.
    checkout_id: Mapped[str] = mapped_column(Text)
    kind: Mapped[CaseKind] = mapped_column(State(CaseKind))
    detail: Mapped[str] = mapped_column(Text)
    # The amount paid, if known: the amount that a refund would give back.
    paid_minor: Mapped[int | None] = mapped_column(BigInteger)
    resolution: Mapped[str | None] = mapped_column(Text)
    resolved_by: Mapped[str | None] = mapped_column(Text)
    resolved_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Created]

    __table_args__ = (
        CheckConstraint("(resolution IS NULL) = (resolved_at IS NULL)", name="resolved"),
        Index("uq_payment_cases_subject", "provider", "checkout_id", "kind", unique=True),
        Index("ix_payment_cases_order_id", "order_id"),
        Index("ix_payment_cases_open", "id", postgresql_where=text("resolution IS NULL")),
    )


class WebhookEvent(Base):
    """A provider's notice that one of its objects has changed, without the event's content."""

    __tablename__ = "webhook_events"

    id: Mapped[BigId]
    provider: Mapped[str] = mapped_column(Text)
    event_id: Mapped[str] = mapped_column(Text)
    type: Mapped[str] = mapped_column(Text)
    object_id: Mapped[str | None] = mapped_column(Text)
    order_id: Mapped[int | None] = mapped_column(ForeignKey("orders.id"))
    state: Mapped[EventState] = mapped_column(State(EventState), server_default="pending")
    # Why it is ignored or parked, or why the last attempt failed.
    reason: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_at: Mapped[Created]
    leased_by: Mapped[str | None] = mapped_column(Text)
    leased_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    received_at: Mapped[Created]
    handled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint(one_of("state", EventState), name="state"),
        Index("uq_webhook_events_event_id", "provider", "event_id", unique=True),
        Index("ix_webhook_events_due", "next_at", postgresql_where=text("state = 'pending'")),
        Index(
            "ix_webhook_events_waiting",
            "order_id",
            postgresql_where=text("state = 'pending' AND order_id IS NOT NULL"),
        ),
        Index("ix_webhook_events_order_id", "order_id", "id"),
        Index("ix_webhook_events_received_at", "received_at"),
        Index("ix_webhook_events_state", "state", "id"),
    )


class Reconciliation(Base):
    """One comparison of our orders with the providers', and its findings."""

    __tablename__ = "payment_reconciliations"

    id: Mapped[BigId]
    actor: Mapped[str] = mapped_column(Text)
    started_at: Mapped[Created]
    # No other run starts before this, unless this one has finished; a dead run's lease expires.
    leased_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # False if a provider did not answer or time ran out: the next run then looks further back.
    complete: Mapped[bool] = mapped_column(Boolean, server_default="false")
    report: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))

    __table_args__ = (Index("ix_payment_reconciliations_started_at", "started_at"),)


class Installation(Base):
    """This installation's id at the providers; the table has one row.

    Two installations may share a provider's account: each page carries the id of its creator.
    """

    __tablename__ = "installations"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    instance_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Created]

    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)
