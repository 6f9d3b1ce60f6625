"""The simulated Stripe as a child process of a test or of the supervisor."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from sandbox.provider.process import SimulatedProvider
from sandbox.stripe.webhooks import EVENTS

Object = dict[str, Any]


class SimulatedStripe(SimulatedProvider):
    """A simulated Stripe: ``StripeClient(stripe.secret_key, base_addresses={"api": stripe.url})``.

    ``secret_key`` and ``webhook_secret`` default to generated ones. With ``settle_seconds`` bank
    debits succeed by themselves after that time; otherwise ``settle()`` decides. Objects are
    returned as Stripe's API shows them.
    """

    module: ClassVar[str] = "sandbox.stripe"
    title: ClassVar[str] = "simulated Stripe"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        secret_key: str = "",
        webhook_secret: str = "",
        settle_seconds: float | None = None,
        **others: Any,
    ) -> None:
        self.secret_key = secret_key or new_secret_key()
        self.webhook_secret = webhook_secret or new_webhook_secret()
        keys = {"SIMULATED_STRIPE_KEY": self.secret_key}
        keys["SIMULATED_WEBHOOK_SECRET"] = self.webhook_secret
        options = [] if settle_seconds is None else ["--settle-seconds", str(settle_seconds)]
        super().__init__(directory, options, keys, **others)

    def variables(self) -> dict[str, str]:
        """Return the variables that configure the product for this stand-in."""
        return {
            "STRIPE_SECRET_KEY": self.secret_key,
            "STRIPE_WEBHOOK_SECRET": self.webhook_secret,
            "STRIPE_API_BASE": self.url,
        }

    def set_endpoint(
        self,
        url: str,
        *,
        secrets: Sequence[str] = (),
        thin: bool = False,
        events: Sequence[str] = EVENTS,
    ) -> None:
        """Deliver events to this address only. If there are several secrets, each one signs."""
        self.set_endpoints([{"url": url, "secrets": secrets, "thin": thin, "events": events}])

    def set_endpoints(self, endpoints: Sequence[Object]) -> None:
        """Deliver events to several endpoints, each with the arguments of ``set_endpoint``."""
        complete = []
        for endpoint in endpoints:
            given = dict(endpoint)
            given["secrets"] = list(given.get("secrets") or [self.webhook_secret])
            complete.append(given)
        self.act("endpoints", endpoints=complete)

    def set_dashboard(
        self,
        *,
        default_tax_percent: int = 0,
        has_terms: bool = True,
        permissions: Sequence[str] | None = None,
    ) -> None:
        """Change the account's settings; what is not given gets its default.

        A tax by default is added to the price of sessions that do not say `automatic_tax`. Without
        terms Stripe asks for no consent to them. `permissions` are a restricted key's.
        """
        self.act(
            "dashboard",
            default_tax_percent=default_tax_percent,
            has_terms=has_terms,
            permissions=None if permissions is None else list(permissions),
        )

    # Actions of the customer.

    def pay(self, session_id: str, *, delayed: bool = False, email: str = "") -> Object:
        """Pay at once by card, or by a bank debit that settles later. Returns the session."""
        return self._object("pay", session_id=session_id, delayed=delayed, email=email)

    def settle(self, session_id: str, *, succeeded: bool = True) -> Object:
        """Let a bank debit succeed or fail. Returns the session."""
        return self._object("settle", session_id=session_id, succeeded=succeeded)

    def open_dispute(
        self,
        charge_id: str,
        *,
        amount: int | None = None,
        status: str = "needs_response",
    ) -> Object:
        """Dispute a charge; the status ``warning_needs_response`` makes it an inquiry."""
        return self._object("dispute", charge_id=charge_id, amount=amount, status=status)

    def update_dispute(self, dispute_id: str, status: str) -> Object:
        """Change an open dispute's status, for example to needs_response or under_review."""
        return self._object("dispute/update", dispute_id=dispute_id, status=status)

    def close_dispute(self, dispute_id: str, status: str) -> Object:
        """Close a dispute as won, lost, warning_closed or prevented."""
        return self._object("dispute/close", dispute_id=dispute_id, status=status)

    def warn_of_fraud(self, charge_id: str) -> Object:
        """Let the card's issuer warn of fraud, which may precede a dispute."""
        return self._object("fraud-warning", charge_id=charge_id)

    # Actions of the operator in Stripe's dashboard, and of Stripe itself.

    def expire(self, session_id: str) -> Object:
        return self._object("expire", session_id=session_id)

    def refund(self, charge_id: str, amount: int | None = None, *, pending: bool = False) -> Object:
        """Refund part of a charge, or all that is left; a pending refund completes later."""
        asked = {"charge": charge_id} | ({} if amount is None else {"amount": amount})
        return self._object("refund", refund=asked, status="pending" if pending else "succeeded")

    def succeed_refund(self, refund_id: str) -> Object:
        """Let a pending refund succeed."""
        return self._object("refund/succeed", refund_id=refund_id)

    def fail_refund(self, refund_id: str, *, lowers_charge: bool = True) -> Object:
        """Let a refund fail later; ``lowers_charge`` also lowers ``amount_refunded``."""
        return self._object("refund/fail", refund_id=refund_id, lowers_charge=lowers_charge)

    def alter(self, object_id: str, **fields: Any) -> Object:
        """Change fields of an object (times, amounts, currency ...) without an event."""
        return self._object("alter", id=object_id, fields=fields)

    def advance(self, seconds: int) -> None:
        """Advance the account's clock; sessions expire accordingly."""
        self.act("advance", seconds=seconds)

    # Inspection by tests.

    def object(self, object_id: str) -> Object:
        """Return an object's current state."""
        return self._object("object", id=object_id)

    def charge_of(self, session_id: str) -> str:
        """Return the id of the charge that paid a session."""
        return str(self.truth_of(session_id)["charge_id"])

    def events(self, type: str = "") -> list[Object]:
        """Return the events, oldest first: all, or those of one type."""
        found: list[Object] = self.act("objects", kind="event")
        return [item for item in reversed(found) if not type or item["type"] == type]

    def truth(self) -> list[Object]:
        """Return the money that the account holds for each session, oldest session first.

        Keys: session_id, charge_id, client_reference_id, metadata, status, payment_status,
        currency, and in minor units paid, refunded, lost, held, withheld.
        """
        found: list[Object] = self.act("truth")
        return found

    def truth_of(self, session_id: str) -> Object:
        """Return one session's entry of ``truth()``."""
        return next(item for item in self.truth() if item["session_id"] == session_id)

    def _object(self, name: str, **values: Any) -> Object:
        found: Object = self.act(name, **values)
        return found


def new_secret_key() -> str:
    """Generate an API key of a test account."""
    return f"sk_test_{secrets.token_hex(24)}"


def new_webhook_secret() -> str:
    """Generate the secret of an endpoint."""
    return f"whsec_{secrets.token_hex(24)}"
