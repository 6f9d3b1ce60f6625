"""Create an account as it was in model-gateway, or bring one up to date.

`imported_accounts` keeps the figures that the last import saw. So a further import brings over
the difference since then, whatever the account has spent or bought here, and without one nothing.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import text

from promptly.clock import utcnow
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import ApiKey, ImportedAccount, User
from promptly.services.accounts import accounts, email_addresses, imported_keys, keys, trials
from promptly.services.audit import Operator
from promptly.services.imports import purchases, usage
from promptly.services.imports.outcome import Outcome, Reason, Report, State
from promptly.services.imports.source import SourceAccount
from promptly.services.ledger import ledger
from promptly.services.payments import inherited_pages
from promptly.services.usage import rollups, statistics
from promptly.settings import Settings

SOURCE = "model-gateway"

# One account at a time, also of two imports that run at once.
_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended('promptly:import', 0))")


@dataclass(frozen=True)
class Import:
    """One run of an import; usage of the days before `until` is brought over."""

    settings: Settings
    operator: Operator
    until: date
    # Folded address of each account seen so far, and its spelling.
    mailboxes: dict[str, str] = field(default_factory=dict)


def begin(settings: Settings, operator: Operator) -> Import:
    """Start a run."""
    return Import(settings, operator, until=rollups.first_rebuilt_day())


def bring_over(account: SourceAccount, run: Import) -> Outcome:
    """Import one account, or what has changed of it since its last import.

    Accounts that cannot be imported, and oddities of others, are noted in the outcome.
    """
    outcome = Outcome(account.id, account.email)
    db.session.execute(_ALONE)
    mark = _mark(account, run, outcome)
    if mark is not None and mark.user_id is not None:
        _Transfer(account, run, mark, mark.user_id, outcome).carry_out()
    return outcome


def finish(report: Report) -> None:
    """End a run: watch for payments on pages of the source, and count recent usage anew."""
    inherited_pages.expect()
    if report.usage_days:
        statistics.recount()


def _mark(account: SourceAccount, run: Import, outcome: Outcome) -> ImportedAccount | None:
    """Return the mark of an account that is imported here, by now; None if it is left out."""
    try:
        address = email_addresses.normalise(account.email)
    except InvalidRequest as problem:
        outcome.note(Reason.INVALID_ADDRESS, problem.message)
        return None
    same = run.mailboxes.setdefault(email_addresses.fold(address), account.email)
    if same != account.email:
        outcome.note(Reason.SAME_MAILBOX, f"the same mailbox as {same}")
    mark = db.session.get(ImportedAccount, account.id, populate_existing=True)
    if mark is None:
        return _create(account, address, run, outcome)
    if mark.user_id is not None:
        accounts.lock(mark.user_id)
    user = None if mark.user_id is None else db.session.get(User, mark.user_id)
    if user is None or user.closed_at is not None:
        outcome.note(Reason.DELETED_HERE, "the account was deleted here after its import")
        return None
    if user.email != address:
        outcome.note(Reason.OTHER_SOURCE, f"account {account.id} was imported as {user.email}")
        return None
    return mark


def _create(
    account: SourceAccount, address: str, run: Import, outcome: Outcome
) -> ImportedAccount | None:
    user = accounts.add(address, created_at=account.created_at)
    if user is None:
        outcome.note(Reason.ADDRESS_TAKEN, f"an account {address} exists already")
        return None
    trials.remember(address, run.settings)
    outcome.is_new = True
    mark = ImportedAccount(
        source_id=account.id,
        user_id=user.id,
        paid_tokens=0,
        trial_tokens=0,
        entry_count=0,
        usage_until=date.min,
        imported_at=utcnow(),
    )
    db.session.add(mark)
    db.session.flush()
    return mark


def _trial(account: SourceAccount, imported_at: datetime) -> tuple[int, datetime | None]:
    """Return the sum of the grants that ran at the first import or since, and the latest end."""
    running = [trial for trial in account.trials if trial.expires_at > imported_at]
    ends = [trial.expires_at for trial in running]
    return sum(trial.tokens for trial in running), max(ends, default=None)


@dataclass
class _Transfer:
    """Everything of one account that is brought over, once the account exists."""

    account: SourceAccount
    run: Import
    mark: ImportedAccount
    user_id: int
    outcome: Outcome

    def carry_out(self) -> None:
        self._bring_key()
        actor = self.run.operator.actor
        bought = purchases.bring_over(
            self.user_id, self.account, self.run.settings, actor=actor, outcome=self.outcome
        )
        self._bring_balance(bought)
        self.outcome.usage_days = usage.bring_over(
            self.user_id, self.account.usage, self.mark, self.run.until
        )
        db.session.flush()
        if self.outcome.state is not State.UNCHANGED:
            self._record()

    def _bring_key(self) -> None:
        """Store the hash of the account's key, in place of an earlier one replaced there."""
        prefix, key_hash = self.account.key_prefix or "", self.account.key_hash or ""
        if not imported_keys.is_usable(prefix, key_hash):
            detail = "the key's hash is missing, or not one of bcrypt"
            self.outcome.note(Reason.KEY_NOT_USABLE, detail)
            return
        if self.mark.key_id is not None:
            known = db.session.get(ApiKey, self.mark.key_id)
            # After a revocation here, the key from there must not come back.
            if known is None or known.revoked_at is not None or known.prefix == prefix:
                return
            keys.revoke(self.user_id, known.id)
        self.mark.key_id = keys.add_imported(self.user_id, prefix, key_hash).id
        self.outcome.keys += 1

    def _bring_balance(self, bought_tokens: int) -> None:
        """Book the difference to the figures of the last import in one ledger entry."""
        balance, mark = self.account.balance_tokens, self.mark
        if balance < 0:
            self.outcome.note(Reason.NEGATIVE_BALANCE, f"{balance} tokens, imported as 0")
        paid = max(balance, 0)
        trial, trial_expires_at = _trial(self.account, mark.imported_at)
        self.outcome.paid_delta = paid - mark.paid_tokens
        self.outcome.trial_delta = trial - mark.trial_tokens
        mark.paid_tokens, mark.trial_tokens = paid, trial
        # Purchases are credited by now; the rest is usage there, or a credit without a purchase.
        paid_delta, trial_delta = self.outcome.paid_delta - bought_tokens, self.outcome.trial_delta
        if not paid_delta and not trial_delta:
            return
        mark.entry_count += 1
        change = ledger.carry_over(
            self.user_id,
            paid_delta,
            trial_delta,
            trial_expires_at,
            reference=f"{SOURCE}:{self.account.id}/{mark.entry_count}",
            actor=self.run.operator.actor,
        )
        excess = change.applied_delta - paid_delta - trial_delta
        if excess:
            detail = f"{excess} tokens were spent there that had been spent here already"
            self.outcome.note(Reason.SPENT_HERE, detail)

    def _record(self) -> None:
        names = ("paid_delta", "trial_delta", "keys", "purchases", "usage_days")
        after: dict[str, Any] = {name: getattr(self.outcome, name) for name in names}
        subject = f"{SOURCE}:{self.account.id}"
        self.run.operator.record(
            "account.import", user_id=self.user_id, subject=subject, after=after
        )
