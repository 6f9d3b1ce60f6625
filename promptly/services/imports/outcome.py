"""The outcome of importing one account, and the report on all of them."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Result for one account of the source."""

    IMPORTED = "imported"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    LEFT_OUT = "left_out"


class Reason(StrEnum):
    """Why an account is listed; the first four are left out."""

    INVALID_ADDRESS = "invalid_address"
    ADDRESS_TAKEN = "address_taken"
    DELETED_HERE = "deleted_here"
    OTHER_SOURCE = "other_source"
    SAME_MAILBOX = "same_mailbox"
    NEGATIVE_BALANCE = "negative_balance"
    SPENT_HERE = "spent_here"
    KEY_NOT_USABLE = "key_not_usable"
    PURCHASE_NOT_AN_ORDER = "purchase_not_an_order"
    PURCHASE_KNOWN = "purchase_known"


LEFT_OUT = frozenset(
    {Reason.INVALID_ADDRESS, Reason.ADDRESS_TAKEN, Reason.DELETED_HERE, Reason.OTHER_SOURCE}
)


@dataclass
class Outcome:
    """Figures of one account that was brought over, and why it is listed for the operator."""

    source_id: str
    email: str
    is_new: bool = False
    paid_delta: int = 0
    trial_delta: int = 0
    keys: int = 0
    purchases: int = 0
    usage_days: int = 0
    listed: list[tuple[Reason, str]] = field(default_factory=list)

    def note(self, reason: Reason, detail: str) -> None:
        """List the account for the operator."""
        self.listed.append((reason, detail))

    @property
    def state(self) -> State:
        """Whether anything was brought over."""
        if any(reason in LEFT_OUT for reason, _ in self.listed):
            return State.LEFT_OUT
        if self.is_new:
            return State.IMPORTED
        changed = (self.paid_delta, self.trial_delta, self.keys, self.purchases, self.usage_days)
        return State.UPDATED if any(changed) else State.UNCHANGED


@dataclass
class Report:
    """Counts over all accounts, and those that are listed."""

    states: Counter[State] = field(default_factory=Counter)
    paid_tokens: int = 0
    trial_tokens: int = 0
    keys: int = 0
    purchases: int = 0
    usage_days: int = 0
    listed: list[dict[str, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one account."""
        self.states[outcome.state] += 1
        self.paid_tokens += outcome.paid_delta
        self.trial_tokens += outcome.trial_delta
        self.keys += outcome.keys
        self.purchases += outcome.purchases
        self.usage_days += outcome.usage_days
        for reason, detail in outcome.listed:
            self.listed.append(
                {
                    "source_id": outcome.source_id,
                    "email": outcome.email,
                    "reason": reason.value,
                    "detail": detail,
                }
            )

    def figures(self) -> dict[str, Any]:
        """Return the counts, with a figure for each state."""
        states = {state.value: self.states[state] for state in State}
        return states | {
            "paid_tokens": self.paid_tokens,
            "trial_tokens": self.trial_tokens,
            "keys": self.keys,
            "purchases": self.purchases,
            "usage_days": self.usage_days,
        }
