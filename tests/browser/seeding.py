"""A site with a past: accounts, a month of requests, purchases and their failures.

Always the same data, dated back from now, so that screenshots can be compared.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete

from promptly.extensions import db
from promptly.models import (
    AuditEntry,
    Balance,
    KeyLimit,
    Order,
    OutboxMail,
    PaymentCase,
    PaymentReversal,
    SweepState,
    WebhookEvent,
)
from promptly.models.states import CapPeriod, MailState, OrderState
from promptly.services.accounts import accounts, key_limits
from promptly.services.ledger import ledger
from promptly.services.usage import rollups, statistics
from promptly.transactions import transaction
from tests.browser.site import Site
from tests.support import factories

DAYS = 30
FURTHER_ACCOUNTS = 64
CHAT, SMALL = "qwen3-coder-30b-a3b-instruct-q4_k_m", "gemma-3-4b-it"
OUTCOMES = (
    ["completed"] * 36 + ["client_disconnected"] * 3 + ["balance_exhausted", "upstream_error"]
)
# The other states are orders at Stripe.
AT_BTCPAY = {"open", "processing", "attention", "invalid"}
PRICES = {"starter": (5_000_000, 50), "standard": (25_000_000, 200), "pro": (100_000_000, 600)}

FAMOUS = (
    "grace.hopper", "alan.turing", "edsger", "barbara.liskov", "donald.knuth", "margaret.hamilton",
    "dennis.ritchie", "frances.allen", "niklaus.wirth", "radia.perlman", "ken.thompson", "hedy",
    "john.mccarthy", "adele.goldberg", "leslie.lamport", "karen.sparck-jones",
)  # fmt: skip
HOUSES = ("example.com", "lab.example.org", "a-company-with-a-long-name.example", "uni.example.edu")


@dataclass
class Past:
    """Ids and keys of the seeded data that pages' paths need."""

    ada: str = ""
    ada_key: str = ""
    ada_id: int = 0
    key_id: int = 0
    newcomer_id: int = 0
    newcomer_key: str = ""
    orders: dict[str, str] = field(default_factory=dict)
    event_id: int = 0
    case_id: int = 0
    over_case_id: int = 0
    refunded_case_id: int = 0
    mail_id: int = 0
    waiting_mail_id: int = 0


class Seeder:
    """Seed one site's database."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.past = Past()
        self.dice = random.Random(20261123)
        self.now = datetime.now(UTC)

    def fill(self) -> Past:
        """Seed everything and roll it up, as on a site that has run for days."""
        self.past.ada, self.past.ada_key = self.site.open_account("ada@example.com")
        _, self.past.newcomer_key = self.site.open_account(
            "newcomer@example.com", trial_tokens=100_000
        )
        with self.site.books.app.app_context():
            with transaction():
                self._ada()
                self._others()
                self._surpluses()
                self._mails()
                self._events()
                self._acts()
                # As if no roll-up had run: otherwise it would take the past as rolled up already.
                db.session.execute(delete(SweepState).where(SweepState.name == rollups.SWEEP_NAME))
            with transaction():
                statistics.refresh(rollups.roll_up())
        return self.past

    def _ago(self, days: float) -> datetime:
        return self.now - timedelta(days=days)

    def _ada(self) -> None:
        user = accounts.find(email=self.past.ada)
        self.past.ada_id = user.id
        self.past.newcomer_id = accounts.find(email="newcomer@example.com").id
        user.created_at = self._ago(45)
        for name in ("laptop", "continuous integration", "<script>alert(1)</script>"):
            self.past.key_id = factories.api_key(user.id, name)[0].id
        self._limit(user.id, self.past.key_id)
        self._order(user.id, "pro", "stripe", "paid", 29.5)
        self._order(user.id, "standard", "btcpay", "paid", 12)
        self._requests(user.id, 26)
        for days, state in enumerate(OrderState):
            if state != "paid":
                provider = "btcpay" if state in AT_BTCPAY else "stripe"
                self._order(user.id, "starter", provider, state, 11 - days)
        half = self._order(user.id, "standard", "btcpay", "open", 0.01)
        half.seen_minor, half.due_satoshis = 100, 1_000
        self.past.orders["underpaid"] = half.number

    def _limit(self, user_id: int, key_id: int) -> None:
        key_limits.set_limits(
            user_id,
            key_id,
            {
                "cap_tokens": 5_000_000,
                "cap_period": CapPeriod.MONTH,
                "expires_at": self._ago(-90),
                "allowed_models": [CHAT],
                "allowed_addresses": ["192.0.2.0/24", "2001:db8::/32"],
                "concurrent_requests": 4,
            },
        )
        used = db.session.get_one(KeyLimit, key_id)
        used.used_tokens, used.held_tokens = 3_400_000, 12_000

    def _requests(self, user_id: int, a_day: int) -> None:
        """Add a month of requests with quiet weekends, charged to paid tokens."""
        for ago in range(DAYS, -1, -1):
            busy = (
                a_day * (0.25 if self._ago(ago).weekday() > 4 else 1) * self.dice.uniform(0.5, 1.4)
            )
            for _ in range(int(busy)):
                made = self._ago(ago) - timedelta(minutes=self.dice.uniform(0, 700))
                prompt = int(self.dice.lognormvariate(9.6, 1.1))
                completion = int(self.dice.lognormvariate(6.2, 0.9))
                outcome = self.dice.choice(OUTCOMES)
                balance = db.session.get_one(Balance, user_id)
                charged = min(prompt + completion, balance.paid_tokens)
                row = factories.usage_event(
                    user_id,
                    created_at=made,
                    model=self.dice.choice((CHAT, CHAT, CHAT, SMALL)),
                    outcome="completed" if ago == 0 else outcome,
                    prompt_tokens=prompt,
                    cached_prompt_tokens=int(prompt * self.dice.choice((0, 0.4, 0.97))),
                    completion_tokens=completion,
                    charged_paid=charged,
                )
                row.time_to_first_token_ms = 120 + prompt // 14
                row.duration_ms = row.time_to_first_token_ms + completion * 21

    def _order(self, user_id: int, pack: str, provider: str, state: str, days_ago: float) -> Order:
        tokens, amount = PRICES[pack]
        row = factories.order(
            user_id, tokens=tokens, amount_minor=amount, provider=provider, state=state
        )
        row.pack, row.livemode = pack, True
        row.created_at = row.updated_at = self._ago(days_ago)
        # No provider has these checkouts: keep the reconciliation away until tomorrow.
        row.checked_at = self.now + timedelta(days=1)
        self.past.orders.setdefault(state, row.number)
        if state in {"paid", "partly_refunded", "refunded", "disputed", "charged_back", "invalid"}:
            row.credited_at = row.created_at + timedelta(seconds=40)
            ledger.adjust(user_id, tokens, actor=provider, kind="purchase", reference=row.number)
            row.payment_id = f"pi_{row.number}"
        if state == "attention":
            row.received_minor = row.seen_minor = amount // 2
            case = self._case(row, "paid_partial", "$0.25 came for $0.50 before the time ran out.")
            self.past.case_id = case.id
        shares = {
            "partly_refunded": 2,
            "refunded": 1,
            "disputed": 1,
            "charged_back": 1,
            "invalid": 1,
        }
        if state in shares:
            self._take_back(row, tokens // shares[state], amount // shares[state])
        return row

    def _take_back(self, order: Order, tokens: int, amount: int) -> None:
        kind = {"disputed": "dispute", "charged_back": "dispute", "invalid": "invalidation"}
        assert order.user_id is not None
        change = ledger.adjust(
            order.user_id,
            -tokens,
            actor=order.provider,
            kind="purchase_reversed",
            reference=f"{order.number}/1",
        )
        order.tokens_taken, order.reversal_count = -change.applied_delta, 1
        order.reversed_minor = amount
        order.refunded_minor = amount if "refunded" in order.state else 0
        db.session.add(
            PaymentReversal(
                order_id=order.id,
                kind=kind.get(order.state, "refund"),
                provider=order.provider,
                provider_id=f"re_{order.number}",
                amount_minor=amount,
                state="succeeded",
                active=True,
                actor="system",
            )
        )

    def _case(self, order: Order, kind: str, detail: str) -> PaymentCase:
        row = PaymentCase(
            order_id=order.id,
            provider=order.provider,
            checkout_id=order.checkout_id or "",
            kind=kind,
            detail=detail,
            paid_minor=order.amount_minor // 2,
        )
        db.session.add(row)
        db.session.flush()
        return row

    def _surpluses(self) -> None:
        """Add two overpayments: one to decide, one of which the refund is not claimed yet."""
        user_id = accounts.find(email=f"grace.hopper@{HOUSES[0]}").id
        detail = "$3.00 came for $2.00."
        orders = [self._order(user_id, "standard", "btcpay", "paid", days) for days in (4, 1)]
        for order in orders:
            order.received_minor = 300
        refunded, waiting = (self._case(order, "paid_over", detail) for order in orders)
        self.past.refunded_case_id, self.past.over_case_id = refunded.id, waiting.id
        refunded.resolution, refunded.resolved_by = "refund", "panel:ada"
        refunded.resolved_at = self._ago(3.2)
        orders[0].returned_minor = 100
        db.session.add(
            PaymentReversal(
                order_id=orders[0].id,
                case_id=refunded.id,
                kind="refund",
                provider="btcpay",
                provider_id="3fFzRFWcLsPj7CxcHAIXXTkHyfnb",
                amount_minor=100,
                counts=False,
                state="offered",
                active=True,
                link="https://btcpay.example.com/pull-payments/3fFzRFWcLsPj7CxcHAIXXTkHyfnb",
                actor="panel:ada",
                created_at=self._ago(3.2),
            )
        )

    def _others(self) -> None:
        for number in range(FURTHER_ACCOUNTS):
            name = FAMOUS[number % len(FAMOUS)]
            address = f"{name}{number // len(FAMOUS) or ''}@{HOUSES[number % len(HOUSES)]}"
            user = factories.user(address, trial_tokens=100_000 if number % 3 else 0)
            user.created_at = self._ago(self.dice.uniform(0, 90))
            user.key_prefix = factories.api_key(user.id)[0].prefix
            if number % 4 == 0:
                pack = self.dice.choice(list(PRICES))
                bought = self.dice.uniform(0, 29)
                self._order(user.id, pack, self.dice.choice(("stripe", "btcpay")), "paid", bought)
                self._requests(user.id, 1 + number % 5)

    def _mails(self) -> None:
        for number, state in enumerate(("sent",) * 8 + ("failed", "failed", "cancelled")):
            row: OutboxMail = factories.mail(
                ("new_key", "receipt", "low_balance")[number % 3],
                user_id=self.past.ada_id,
                recipient=self.past.ada,
            )
            row.state, row.attempts = MailState(state), 1
            row.created_at = self._ago(8 - number / 2)
            if state == "sent":
                row.sent_at = row.created_at + timedelta(seconds=2)
            if state == "failed":
                row.attempts = 30
                self.past.mail_id = row.id
                row.last_error = "550 5.1.1 <ada@example.com>: Recipient address rejected: unknown"

        waiting = factories.mail("receipt", user_id=self.past.ada_id, recipient=self.past.ada)
        waiting.next_at = self.now + timedelta(days=1)
        waiting.attempts, waiting.last_error = 3, "451 4.3.0 Temporary lookup failure"
        self.past.waiting_mail_id = waiting.id

    def _events(self) -> None:
        for number, state in enumerate(("handled",) * 9 + ("ignored", "parked", "parked")):
            provider = ("stripe", "btcpay")[number % 2]
            stripe = provider == "stripe"
            row = WebhookEvent(
                provider=provider,
                event_id=f"evt_1Q{number:08}" if stripe else f"delivery{number:08}",
                type="checkout.session.completed" if stripe else "InvoiceSettled",
                object_id=f"cs_test_{number:010}" if stripe else f"invoice{number:010}",
                state=state,
                attempts=30 if state == "parked" else 1,
                reason={
                    "ignored": "no order of ours",
                    "parked": "the provider does not know this page (404)",
                }.get(state),
                received_at=self._ago(6 - number / 3),
                handled_at=None if state == "parked" else self._ago(6 - number / 3),
            )
            db.session.add(row)
            db.session.flush()
            if state == "parked":
                self.past.event_id = row.id

    def _acts(self) -> None:
        acts = (
            ("balance.adjust", "panel:ada", {"paid_tokens": 0}, {"paid_tokens": 1_000_000}),
            ("balance.grant", "api:admin", {"trial_tokens": 0}, {"trial_tokens": 250_000}),
            ("webhook.replay", "panel:admin", {"state": "parked"}, {"state": "pending"}),
            ("mail.resend", "cli:root", {"state": "failed"}, {"state": "pending"}),
        )
        for number, (action, actor, before, after) in enumerate(acts):
            db.session.add(
                AuditEntry(
                    actor=actor,
                    address=None if actor.startswith("cli") else "100.64.7.21",
                    action=action,
                    user_id=self.past.ada_id,
                    before=before,
                    after=after,
                    created_at=self._ago(4 - number),
                )
            )


def fill(site: Site) -> Past:
    """Seed a site with its past."""
    return Seeder(site).fill()
