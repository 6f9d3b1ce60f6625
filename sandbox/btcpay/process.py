"""The simulated BTCPay Server as a child process of a test or of the supervisor."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from sandbox.btcpay.store import METHODS, VERSION
from sandbox.btcpay.webhooks import TYPES
from sandbox.provider.process import SimulatedProvider

Object = dict[str, Any]


class SimulatedBTCPay(SimulatedProvider):
    """A simulated BTCPay Server on 127.0.0.1 with one store.

    Ids and keys default to generated ones. With ``confirm_seconds`` on-chain payments confirm by
    themselves after that time; otherwise ``confirm()`` does it. Invoices are returned as the API
    shows them.
    """

    module: ClassVar[str] = "sandbox.btcpay"
    title: ClassVar[str] = "simulated BTCPay Server"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        api_key: str = "",
        store_id: str = "",
        webhook_secret: str = "",
        confirm_seconds: float | None = None,
        **others: Any,
    ) -> None:
        self.api_key = api_key or new_api_key()
        self.store_id = store_id or new_store_id()
        self.webhook_secret = webhook_secret or new_webhook_secret()
        keys = {
            "SIMULATED_BTCPAY_KEY": self.api_key,
            "SIMULATED_WEBHOOK_SECRET": self.webhook_secret,
        }
        options = ["--store-id", self.store_id]
        if confirm_seconds is not None:
            options += ["--confirm-seconds", str(confirm_seconds)]
        super().__init__(directory, options, keys, **others)

    def variables(self) -> dict[str, str]:
        """Return the variables that configure the product for this stand-in."""
        return {
            "BTCPAY_URL": self.url,
            "BTCPAY_API_KEY": self.api_key,
            "BTCPAY_STORE_ID": self.store_id,
            "BTCPAY_WEBHOOK_SECRET": self.webhook_secret,
        }

    def set_webhook(self, url: str, *, secret: str = "", events: Sequence[str] = TYPES) -> None:
        """Deliver events to this address; an empty one stops delivery."""
        self.act("webhook", url=url, secret=secret or self.webhook_secret, events=list(events))

    def set_permissions(self, permissions: Sequence[str]) -> None:
        """Change the permissions of the API key."""
        self.act("permissions", permissions=list(permissions))

    def set_settings(
        self,
        *,
        methods: Sequence[str] = METHODS,
        default_method: str | None = None,
        version: str = VERSION,
    ) -> None:
        """Change the store's payment methods and the server's version.

        What is not given gets its default; a store need not have a default method.
        """
        values = {"default_method": default_method, "version": version}
        self.act("settings", methods=list(methods), **values)

    # Actions of the customer and of the miners.

    def pay(self, invoice_id: str, *, share: str = "1", method: str = "BTC-LN") -> Object:
        """Pay a share of the price, like "1.5". BTC-LN settles at once; BTC-CHAIN waits."""
        return self._invoice("pay", invoice_id=invoice_id, share=share, method=method)

    def confirm(self, invoice_id: str) -> Object:
        """Let a block confirm the on-chain payments."""
        return self._invoice("confirm", invoice_id=invoice_id)

    def replace(self, invoice_id: str) -> Object:
        """Let the customer take back unconfirmed payments (replace-by-fee)."""
        return self._invoice("replace", invoice_id=invoice_id)

    def claim(self, pull_payment_id: str, destination: str = "") -> None:
        """Claim a refund, by default as the customer would by its first payout method."""
        self.act("claim", pull_payment_id=pull_payment_id, destination=destination)

    def pay_out(self, pull_payment_id: str) -> None:
        """Pay out a claimed refund."""
        self.act("pay-out", pull_payment_id=pull_payment_id)

    # Actions of the operator in BTCPay's own pages, and the passing of time.

    def refund(self, invoice_id: str, variant: str = "RateThen", called: str = "") -> str:
        """Refund an invoice there, by a name of its own; returns the pull payment's id."""
        return str(self.act("refund", invoice_id=invoice_id, variant=variant, called=called)["id"])

    def archive(self, pull_payment_id: str) -> None:
        """Withdraw a refund; a claim that is not paid out yet is cancelled."""
        self.act("archive", pull_payment_id=pull_payment_id)

    def mark(self, invoice_id: str, status: str) -> Object:
        """Mark an invoice as Settled or Invalid; the server refuses that in some states."""
        return self._invoice("mark", invoice_id=invoice_id, status=status)

    def alter(self, invoice_id: str, **fields: Any) -> Object:
        """Change fields of an invoice without an event.

        These are the internal fields: amount, currency, metadata, checkout, created, expires,
        monitored, status, additional, rate, payments.
        """
        return self._invoice("alter", id=invoice_id, fields=fields)

    def advance(self, seconds: int) -> None:
        """Advance the store's clock; invoices expire accordingly."""
        self.act("advance", seconds=seconds)

    # Inspection by tests.

    def invoice(self, invoice_id: str) -> Object:
        """Return an invoice's current state."""
        return self._invoice("invoice", id=invoice_id)

    def refunds_of(self, invoice_id: str) -> list[str]:
        """Return the ids of an invoice's refunds, oldest first, also of those withdrawn."""
        found: list[str] = self.act("refunds", invoice_id=invoice_id)
        return found

    def truth(self) -> list[Object]:
        """Return the money that the store holds for each invoice, oldest first.

        Keys: invoice_id, order_id, status, additional_status, currency, and in cents amount,
        paid, settled, refunded, promised, held.
        """
        found: list[Object] = self.act("truth")
        return found

    def truth_of(self, invoice_id: str) -> Object:
        """Return one invoice's entry of ``truth()``."""
        return next(item for item in self.truth() if item["invoice_id"] == invoice_id)

    def _invoice(self, name: str, **values: Any) -> Object:
        found: Object = self.act(name, **values)
        return found


def new_api_key() -> str:
    """Generate an API key."""
    return secrets.token_hex(20)


def new_store_id() -> str:
    """Generate the id of a store."""
    return secrets.token_hex(22)


def new_webhook_secret() -> str:
    """Generate the secret of a webhook."""
    return secrets.token_hex(20)
