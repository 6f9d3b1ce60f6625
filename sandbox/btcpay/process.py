"""The simulated BTCPay Server as a process that a test or the supervisor owns."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from sandbox.btcpay.webhooks import TYPES
from sandbox.provider.process import SimulatedProvider

Object = dict[str, Any]


class SimulatedBTCPay(SimulatedProvider):
    """A simulated BTCPay Server on 127.0.0.1 with one store.

    Without ids and keys it makes its own. ``confirm_seconds`` lets payments on the chain be
    confirmed by themselves after that time; without, ``confirm()`` does it. Invoices are returned
    as the API shows them.
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
        """What the product is to be configured with."""
        return {
            "BTCPAY_URL": self.url,
            "BTCPAY_API_KEY": self.api_key,
            "BTCPAY_STORE_ID": self.store_id,
            "BTCPAY_WEBHOOK_SECRET": self.webhook_secret,
        }

    def set_webhook(self, url: str, *, secret: str = "", events: Sequence[str] = TYPES) -> None:
        """Deliver events to this address; an empty one stops that."""
        self.act("webhook", url=url, secret=secret or self.webhook_secret, events=list(events))

    def set_permissions(self, permissions: Sequence[str]) -> None:
        """Change what the API key may do."""
        self.act("permissions", permissions=list(permissions))

    # What the customer and the miners do.

    def pay(self, invoice_id: str, *, share: str = "1", method: str = "BTC-LN") -> Object:
        """Pay a share of the price, as "0.5" or "1.5": BTC-LN settles at once, BTC-CHAIN waits."""
        return self._invoice("pay", invoice_id=invoice_id, share=share, method=method)

    def confirm(self, invoice_id: str) -> Object:
        """Let a block confirm what was paid on the chain."""
        return self._invoice("confirm", invoice_id=invoice_id)

    def replace(self, invoice_id: str) -> Object:
        """Let the customer take back what is not confirmed (replace-by-fee)."""
        return self._invoice("replace", invoice_id=invoice_id)

    def claim(self, pull_payment_id: str, destination: str = "bcrt1qcustomer") -> None:
        """Claim a refund."""
        self.act("claim", pull_payment_id=pull_payment_id, destination=destination)

    def pay_out(self, pull_payment_id: str) -> None:
        """Pay out a refund that was claimed."""
        self.act("pay-out", pull_payment_id=pull_payment_id)

    # What the operator does in BTCPay's own pages, and what time brings.

    def mark(self, invoice_id: str, status: str) -> Object:
        """Mark an invoice as Settled or Invalid; the server refuses that for some."""
        return self._invoice("mark", invoice_id=invoice_id, status=status)

    def alter(self, invoice_id: str, **fields: Any) -> Object:
        """Change fields of an invoice without an event.

        They are those kept inside: amount, currency, metadata, checkout, created, expires,
        monitored, status, additional, rate, payments.
        """
        return self._invoice("alter", id=invoice_id, fields=fields)

    def advance(self, seconds: int) -> None:
        """Set the clock forward; invoices expire as they would have."""
        self.act("advance", seconds=seconds)

    # What a test looks at.

    def invoice(self, invoice_id: str) -> Object:
        """Return an invoice as it is now."""
        return self._invoice("invoice", id=invoice_id)

    def truth(self) -> list[Object]:
        """Return what is held of every invoice's money, the oldest first.

        Of each: invoice_id, order_id, status, additional_status, currency, and in cents amount,
        paid, settled, refunded, promised, held.
        """
        found: list[Object] = self.act("truth")
        return found

    def truth_of(self, invoice_id: str) -> Object:
        """Return what is held of one invoice's money."""
        return next(item for item in self.truth() if item["invoice_id"] == invoice_id)

    def _invoice(self, name: str, **values: Any) -> Object:
        found: Object = self.act(name, **values)
        return found


def new_api_key() -> str:
    """Make up an API key."""
    return secrets.token_hex(20)


def new_store_id() -> str:
    """Make up the id of a store."""
    return secrets.token_hex(22)


def new_webhook_secret() -> str:
    """Make up the secret of a webhook."""
    return secrets.token_hex(20)
