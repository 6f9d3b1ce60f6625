"""The states, outcomes and kinds that rows have; `promptly.labels` has their words for people."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from sqlalchemy import Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class KeyScope(StrEnum):
    """Of an API key: `inference` is /v1 only, `full` also opens the dashboard."""

    FULL = "full"
    INFERENCE = "inference"


class CapPeriod(StrEnum):
    """Time that the cap of a key is for, in UTC; weeks begin on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    EVER = "ever"


class Outcome(StrEnum):
    """How a metered request ended (docs/operating/metering.md says what each is charged)."""

    COMPLETED = "completed"
    BALANCE_EXHAUSTED = "balance_exhausted"
    KEY_LIMIT_REACHED = "key_limit_reached"
    CLIENT_DISCONNECTED = "client_disconnected"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    REJECTED = "rejected"
    RECOVERED = "recovered"
    ACCOUNT_DELETED = "account_deleted"
    ACCOUNT_SUSPENDED = "account_suspended"
    INTERNAL_ERROR = "internal_error"


class HoldState(StrEnum):
    """A hold leaves `open` once."""

    OPEN = "open"
    SETTLED = "settled"
    RECOVERED = "recovered"


class OrderState(StrEnum):
    """`services.payments.order_states` has the transitions."""

    CREATED = "created"
    OPEN = "open"
    PROCESSING = "processing"
    ATTENTION = "attention"
    EXPIRED = "expired"
    FAILED = "failed"
    PAID = "paid"
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    CHARGED_BACK = "charged_back"
    INVALID = "invalid"


class EventState(StrEnum):
    """Of a webhook event; `parked` ones failed too often and wait for an operator."""

    PENDING = "pending"
    HANDLED = "handled"
    IGNORED = "ignored"
    PARKED = "parked"


class MailState(StrEnum):
    """Of an email in the outbox."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CaseKind(StrEnum):
    """Why a payment does not fit its order, or fits none."""

    PAID_PARTIAL = "paid_partial"
    PAID_LATE = "paid_late"
    PAID_OVER = "paid_over"
    UNCONFIRMED = "unconfirmed"
    AMOUNT = "amount"
    CURRENCY = "currency"
    LIVEMODE = "livemode"
    SECOND_CHECKOUT = "second_checkout"
    ACCOUNT_DELETED = "account_deleted"
    UNKNOWN_ORDER = "unknown_order"
    INVALID = "invalid"
    FRAUD_WARNING = "fraud_warning"


class State(TypeDecorator[str]):
    """A text column whose values are members of an enumeration.

    A value that a newer release has written during a deploy stays a plain string.
    """

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        try:
            return self.kind(value)
        except ValueError:
            return str(value)


def one_of(column: str, values: Iterable[str]) -> str:
    """Return the SQL condition that a column holds one of these values."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


class UpstreamState(StrEnum):
    """States of a model server. DRAINING and DRAINED get no new request; DRAINED runs none."""

    READY = "ready"
    DOWN = "down"
    DRAINING = "draining"
    DRAINED = "drained"
