"""Orders as Stripe Checkout sessions, and sessions as snapshots."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from stripe.params import RefundCreateParams

from promptly.clients.provider_errors import ProviderRefused
from promptly.clients.stripe import StripeAPI
from promptly.services.payments.providers.base import (
    EXCEEDS,
    ListedRefund,
    OrderFacts,
    RefundFacts,
    RefundMade,
    Subject,
    moment,
)
from promptly.services.payments.providers.stripe_session import (
    INSTANCE_KEY,
    ORDER_KEY,
    session_params,
)
from promptly.services.payments.snapshot import Checkout, ProviderSnapshot, Reversal
from promptly.services.payments.webhook_events import STRIPE_TYPES, ReceivedEvent, stripe_event_of
from promptly.settings import Settings

# In the metadata of our refunds: the row.
REFUND_KEY = "promptly_refund"

FAILED_INTENT = frozenset({"requires_payment_method", "canceled"})
FAILED_REFUND = frozenset({"failed", "canceled"})
# Prevented disputes, like inquiries (`warning_…`), move no money.
HARMLESS_DISPUTE = frozenset({"won", "prevented"})

# Limits of the search for the session of an order whose answer was lost.
LOOK_AROUND = timedelta(minutes=15)
MOST_LOOKED_AT = 1000


class StripeProvider:
    """A connection to Stripe for one unit of work."""

    name = "stripe"

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self._settings = settings
        self._api = StripeAPI(settings, timeout_seconds)

    def close(self) -> None:
        self._api.close()

    def check(self) -> list[str]:
        """List one session; for a restricted key, try every permission that it needs."""
        self._api.check()
        if not self._settings.stripe_secret_key.reveal().startswith("rk_"):
            return []
        return [
            f"STRIPE_SECRET_KEY lacks a permission: {name}. Grant it in Stripe's dashboard, "
            "Developers, API keys"
            for name in self._api.missing_permissions()
        ]

    def create(self, order: OrderFacts, return_url: str, email: str | None) -> Checkout:
        """Create the session of an order; repeating an attempt returns the same session."""
        session = self._created(order, return_url, email)
        url = session.get("url")
        if not isinstance(url, str):
            # The session of this idempotency key was open at first and has ended since.
            raise ProviderRefused("the checkout is closed already", code="checkout_closed")
        return Checkout(
            checkout_id=session["id"],
            url=url,
            livemode=session["livemode"],
            expires_at=datetime.fromtimestamp(session["expires_at"], UTC),
        )

    def _created(self, order: OrderFacts, return_url: str, email: str | None) -> dict[str, Any]:
        key = f"{order.number}-{order.attempt}"
        params = session_params(order, return_url, email, self._settings)
        try:
            return self._api.create_session(params, key)
        except ProviderRefused as problem:
            if problem.code != "email_invalid":
                raise
        # Stripe accepts fewer addresses than we do. It keeps no answer to invalid parameters, so
        # the idempotency key is unused.
        params = session_params(order, return_url, None, self._settings)
        return self._api.create_session(params, key)

    def find(self, order: OrderFacts) -> ProviderSnapshot | None:
        """Return the order's session among those created around the time of the order."""
        since = int((order.created_at - timedelta(minutes=1)).timestamp())
        until = int((order.created_at + LOOK_AROUND).timestamp())
        for session in self._api.sessions(since, until, MOST_LOOKED_AT, complete=False):
            if order_number(session) == order.number:
                return self._whole(session)
        return None

    def fetch(self, checkout_id: str, refund_ids: Sequence[str] = ()) -> ProviderSnapshot:
        """Return the session with all refunds and disputes of its payment."""
        return self._whole(self._api.session(checkout_id))

    def subject_of(self, event: ReceivedEvent) -> Subject:
        """Return the session, or the payment that a charge, refund, dispute or warning is of."""
        object_id = event.object_id or ""
        kind = STRIPE_TYPES[event.type]
        if kind == "session":
            return Subject(checkout_id=object_id)
        if kind == "early_fraud_warning":
            return self._warned_of(self._api.early_fraud_warning(object_id))
        fetch = {
            "charge": self._api.charge,
            "refund": self._api.refund,
            "dispute": self._api.dispute,
        }[kind]
        return Subject(payment_id=_id(fetch(object_id).get("payment_intent")))

    def _warned_of(self, warning: dict[str, Any]) -> Subject:
        payment = _id(warning.get("payment_intent"))
        charge = _id(warning.get("charge"))
        if payment is None and charge is not None:
            payment = _id(self._api.charge(charge).get("payment_intent"))
        about = str(warning.get("fraud_type") or "unknown").replace("_", " ")
        return Subject(payment_id=payment, fraud_warning=about)

    def checkout_of(self, payment_id: str) -> str | None:
        """Return the session that a payment was made in, or None."""
        session = self._api.session_of_payment(payment_id)
        return None if session is None else session["id"]

    def refund(self, order: OrderFacts, refund: RefundFacts) -> RefundMade:
        """Refund a payment; repeating it returns the same refund.

        Stripe forgets idempotency keys after a day, so look first for a refund that an unanswered
        attempt may have made.
        """
        payment = order.payment_id
        if payment is None and order.checkout_id is not None:
            # An imported order knows only its session.
            payment = _id(self._api.session(order.checkout_id).get("payment_intent"))
        if payment is None:
            raise ProviderRefused("this order has no payment", code="no_payment")
        if refund.response_pending:
            for item in self._api.refunds_of(payment):
                known = refund_of(item)
                if known.own_id == refund.id:
                    return RefundMade(known)
        if refund.exceeds:
            raise ProviderRefused(EXCEEDS)
        params: RefundCreateParams = {
            "payment_intent": payment,
            "amount": refund.amount_minor,
            "metadata": {
                ORDER_KEY: order.number,
                INSTANCE_KEY: order.instance_id,
                REFUND_KEY: str(refund.id),
            },
        }
        made = self._api.create_refund(params, f"{order.number}-refund-{refund.id}")
        return RefundMade(refund_of(made))

    def refunds(self) -> list[ListedRefund]:
        """Return nothing: `fetch` finds all refunds of a session."""
        return []

    def listed(self, since: int, until: int, most: int) -> list[ProviderSnapshot]:
        """Return the completed sessions of a time."""
        sessions = self._api.sessions(since, until - 1, most, complete=True)
        return [snapshot_of(session) for session in sessions]

    def events(self, since: int, until: int, most: int) -> list[ReceivedEvent]:
        """Return Stripe's list of the events that we handle."""
        listed = self._api.events(sorted(STRIPE_TYPES), since, until - 1, most)
        return [stripe_event_of(item, self._settings) for item in listed]

    def _whole(self, session: dict[str, Any]) -> ProviderSnapshot:
        payment = _id(session.get("payment_intent"))
        if payment is None:
            return snapshot_of(session)
        if session_status(session) == "processing":
            # A session whose delayed payment has failed still looks like one in processing.
            intent = self._api.payment_intent(payment)
            failed = intent.get("status") in FAILED_INTENT
            return (
                replace(snapshot_of(session), status="failed") if failed else snapshot_of(session)
            )
        if session.get("payment_status") != "paid":
            return snapshot_of(session)
        refunds = tuple(refund_of(item) for item in self._api.refunds_of(payment))
        currency = str(session.get("currency"))
        disputes = tuple(dispute_of(item, currency) for item in self._api.disputes_of(payment))
        return snapshot_of(session, refunds + disputes)


def order_number(session: dict[str, Any]) -> str | None:
    """Return the number of the order that a session was created for, if it is ours."""
    return _text(session, ORDER_KEY)


def snapshot_of(session: dict[str, Any], reversals: tuple[Reversal, ...] = ()) -> ProviderSnapshot:
    """Convert a session to a snapshot."""
    status = session_status(session)
    amount = session.get("amount_total")
    received = amount if session.get("payment_status") == "paid" else 0
    return ProviderSnapshot(
        provider="stripe",
        checkout_id=session["id"],
        order_number=order_number(session),
        livemode=bool(session.get("livemode")),
        status=status,
        provider_status=f"{session.get('status')}/{session.get('payment_status')}",
        amount_minor=amount,
        currency=str(session.get("currency") or "").upper(),
        url=session.get("url"),
        expires_at=moment(session.get("expires_at")),
        payment_id=_id(session.get("payment_intent")),
        paid_minor=received if status == "paid" else None,
        received_minor=received,
        tax_minor=_tax(session) if status == "paid" else None,
        reversals=reversals,
        instance_id=_text(session, INSTANCE_KEY),
    )


def session_status(session: dict[str, Any]) -> str:
    """Return the status of a session as far as the session itself shows it.

    One that a discount makes free is complete without a payment: its total is not the order's.
    """
    paid, status = session.get("payment_status"), session.get("status")
    if paid == "paid" or (paid, status) == ("no_payment_required", "complete"):
        return "paid"
    if status == "expired":
        return "expired"
    return "processing" if status == "complete" else "open"


def refund_of(refund: dict[str, Any]) -> Reversal:
    """Convert a refund; it counts from its request until it fails."""
    own = (refund.get("metadata") or {}).get(REFUND_KEY, "")
    state = refund.get("status") or "pending"
    return Reversal(
        kind="refund",
        provider_id=refund["id"],
        amount_minor=refund["amount"],
        state=state,
        active=state not in FAILED_REFUND,
        own_id=int(own) if own.isdecimal() else None,
    )


def dispute_of(dispute: dict[str, Any], currency: str) -> Reversal:
    """Convert a dispute; it counts while it is open, and if it is lost."""
    state = dispute["status"]
    same = dispute.get("currency") == currency
    return Reversal(
        kind="dispute",
        provider_id=dispute["id"],
        amount_minor=dispute["amount"] if same else None,
        state=state,
        active=state not in HARMLESS_DISPUTE and not state.startswith("warning_"),
    )


def _tax(session: dict[str, Any]) -> int | None:
    """Return the tax that Stripe has computed for a session, or None if it has not."""
    tax = (session.get("total_details") or {}).get("amount_tax")
    computed = (session.get("automatic_tax") or {}).get("status") == "complete"
    return tax if computed and isinstance(tax, int) else None


def _text(session: dict[str, Any], key: str) -> str | None:
    found = (session.get("metadata") or {}).get(key)
    return found if isinstance(found, str) else None


def _id(value: Any) -> str | None:
    # A reference is an id, or the whole object if it was expanded.
    found = value.get("id") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None
