"""Database models; one group of tables per file."""

from promptly.models.accounts import (
    ApiKey,
    ImportedAccount,
    PepperVersion,
    TrialClaim,
    TrialCount,
    User,
)
from promptly.models.audit import AuditEntry
from promptly.models.balances import Balance, LedgerEntry
from promptly.models.base import Base
from promptly.models.key_limits import KeyLimit
from promptly.models.operations import (
    DrainedUpstream,
    LedgerVerification,
    ModelServerOutage,
    OperatorAlert,
    UpstreamModels,
)
from promptly.models.outbox import OutboxMail
from promptly.models.payments import (
    Installation,
    Order,
    PaymentCase,
    PaymentReversal,
    Reconciliation,
    WebhookEvent,
)
from promptly.models.prices import PriceVersion
from promptly.models.sessions import DashboardSession, EndedPanelSession
from promptly.models.statistics import AccountActivity, DailyOutcome, DailyRevenue, DailyTotal
from promptly.models.usage import Hold, SweepState, UsageBreakdown, UsageEvent, UsageRollup

__all__ = [
    "AccountActivity",
    "ApiKey",
    "AuditEntry",
    "Balance",
    "Base",
    "DailyOutcome",
    "DailyRevenue",
    "DailyTotal",
    "DashboardSession",
    "DrainedUpstream",
    "EndedPanelSession",
    "Hold",
    "ImportedAccount",
    "Installation",
    "KeyLimit",
    "LedgerEntry",
    "LedgerVerification",
    "ModelServerOutage",
    "OperatorAlert",
    "Order",
    "OutboxMail",
    "PaymentCase",
    "PaymentReversal",
    "PepperVersion",
    "PriceVersion",
    "Reconciliation",
    "SweepState",
    "TrialClaim",
    "TrialCount",
    "UpstreamModels",
    "UsageBreakdown",
    "UsageEvent",
    "UsageRollup",
    "User",
    "WebhookEvent",
]
