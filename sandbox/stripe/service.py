"""The complete stand-in: API, hosted page and control routes over one account."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from sandbox.provider import service
from sandbox.provider.http import Answer, Request
from sandbox.stripe import checkout, errors
from sandbox.stripe.account import Account
from sandbox.stripe.api import Api
from sandbox.stripe.control import add_control
from sandbox.stripe.pages import add_pages


class Service(service.Service):
    """A simulated Stripe. ``settle_seconds``, if set, makes bank debits succeed after that time."""

    api_prefix: ClassVar[str] = "/v1/"

    def __init__(
        self,
        secret_key: str,
        *,
        retry_seconds: Sequence[float],
        settle_seconds: float | None = None,
        state_file: Path | None = None,
    ) -> None:
        self.account = Account(secret_key)
        super().__init__(
            self.account,
            error=errors.simulated,
            retry_seconds=retry_seconds,
            # Stripe retries everything but a success.
            is_final=lambda _: False,
            on_delivered=lambda message: self.account.delivered(message.source),
            state_file=state_file,
        )
        self._settle_seconds = settle_seconds
        self._api = Api(self.account, self.faults)
        add_pages(self.routes, self.account)
        add_control(self.routes, self.account, self.sender)

    def run_due(self) -> None:
        """Expire overdue sessions and settle due debits."""
        checkout.expire_overdue(self.account)
        if self._settle_seconds is not None:
            checkout.settle_overdue(self.account, self._settle_seconds)

    def call(self, request: Request, record: dict[str, Any]) -> Answer:
        return self._api.handle(request, record)

    def reset(self) -> None:
        super().reset()
        self._api.keys.clear()
