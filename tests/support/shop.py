"""promptly with the simulated Stripe and BTCPay: buy, handle events, reconcile, read the books."""

import threading
from collections.abc import Callable
from typing import Any

from flask import Flask
from sqlalchemy import CursorResult, text
from werkzeug.serving import make_server

from promptly.extensions import db
from promptly.secret import Secret
from promptly.services.ledger import verification
from promptly.services.ledger.verification import Difference
from promptly.services.payments import (
    case_decisions,
    checkout,
    circuit_breaker,
    lots,
    orders,
    reconciliation,
    refunds,
    webhook_handler,
)
from promptly.services.payments.refunds import RefundResult
from promptly.settings import Settings
from promptly.transactions import transaction
from sandbox.btcpay import SimulatedBTCPay
from sandbox.stripe import SimulatedStripe
from tests.support import factories
from tests.support.races import together

Json = dict[str, Any]


def configuration(stripe: SimulatedStripe, btcpay: SimulatedBTCPay) -> Json:
    """Return the settings fields that point to the two simulators."""
    return {
        "stripe_secret_key": Secret(stripe.secret_key),
        "stripe_webhook_secret": (Secret(stripe.webhook_secret),),
        "stripe_api_base": stripe.url,
        "btcpay_url": btcpay.url,
        "btcpay_api_key": Secret(btcpay.api_key),
        "btcpay_store_id": btcpay.store_id,
        "btcpay_webhook_secret": Secret(btcpay.webhook_secret),
    }


class Site:
    """An application that the simulators reach by HTTP, with a thread per request."""

    def __init__(self, app: Flask) -> None:
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


class Shop:
    """One application and its two providers; `work` stands in for the Celery worker."""

    def __init__(
        self, app: Flask, site_url: str, stripe: SimulatedStripe, btcpay: SimulatedBTCPay
    ) -> None:
        self.app = app
        self.site_url = site_url
        self.stripe = stripe
        self.btcpay = btcpay
        self.settings: Settings = app.extensions["settings"]

    def open(self) -> None:
        """Reset both providers, and make them answer and deliver to this shop."""
        circuit_breaker.reset()
        for provider in (self.stripe, self.btcpay):
            provider.clear_faults()
            provider.wait_until_quiet()
            provider.reset()
        # An account that adds taxes to every price, unless a session says otherwise.
        self.stripe.set_dashboard(default_tax_percent=20)
        endpoint = f"{self.site_url}/stripe/webhook"
        self.stripe.set_endpoints([{"url": endpoint}] if self.site_url else [])
        self.btcpay.set_webhook(f"{self.site_url}/btcpay/webhook" if self.site_url else "")

    def account(self, paid_tokens: int = 0) -> int:
        """Create an account and return its id."""
        with self.app.app_context(), transaction():
            return factories.user(paid_tokens=paid_tokens).id

    def start(self, user_id: int, pack: str = "standard", method: str = "stripe") -> str:
        """Order a pack and return the URL of its checkout page."""
        with self.app.app_context():
            return checkout.start(user_id, pack, method, self.settings)

    def order(self, user_id: int, pack: str = "standard", method: str = "stripe") -> str:
        """Order a pack and return the id of its checkout page."""
        self.start(user_id, pack, method)
        return str(self.orders(user_id)[-1]["checkout_id"])

    def buy(self, user_id: int, pack: str = "standard", method: str = "stripe") -> str:
        """Order and pay a pack, and return the id of its checkout page."""
        page = self.order(user_id, pack, method)
        if method == "stripe":
            self.stripe.pay(page)
        else:
            self.btcpay.pay(page)
        return page

    def work(self, workers: int = 1) -> None:
        """Handle all webhook events that are due, and those that only wait for an order's lease."""
        call: Callable[[], None] = self._work
        if workers > 1:
            together(self.app, *[call] * workers)
        with self.app.app_context():
            self._work()

    def _work(self) -> None:
        while True:
            while webhook_handler.handle(self.settings):
                pass
            statement = (
                "UPDATE webhook_events SET next_at = now() WHERE state = 'pending' "
                "AND leased_by IS NULL AND order_id IS NOT NULL AND reason IS NULL RETURNING id"
            )
            with transaction() as session:
                if not session.execute(text(statement)).all():
                    return

    def reconcile(self) -> Json:
        """Run a reconciliation and return its report."""
        with self.app.app_context():
            row = reconciliation.run(self.settings, actor="test")
            assert row is not None
            return {**row.report, "complete": row.complete}

    def refund(self, number: str, amount_minor: int | None = None, **values: Any) -> RefundResult:
        """Refund an order as the panel and the command do; `by_hand` only records it."""
        with self.app.app_context():
            refunds.read_received(number, self.settings)
            with transaction():
                row_id = refunds.request_refund(
                    number, amount_minor=amount_minor, actor="cli:test", **values
                ).id
            done = refunds.execute_refund(row_id, self.settings)
            assert done is not None
            return done

    def age_refunds(self) -> None:
        """Let the last attempt of every refund be longer ago than any call takes."""
        self.rows("UPDATE payment_reversals SET updated_at = now() - interval '1 hour'")

    def decide(self, choice: str, case_id: int | None = None, note: str = "because") -> Json:
        """Decide a case, by default the newest, execute its refund if any, and return the case."""
        chosen = int(self.cases()[-1]["id"]) if case_id is None else case_id
        with self.app.app_context():
            case_decisions.prepare(chosen, choice, self.settings)
            with transaction():
                _, refund_id = case_decisions.resolve(chosen, choice, actor="cli:ada", note=note)
            if refund_id is not None:
                refunds.execute_refund(refund_id, self.settings)
        return next(case for case in self.cases() if case["id"] == chosen)

    def orders(self, user_id: int | None = None) -> list[Json]:
        """Return all orders, or an account's, oldest first."""
        where = "" if user_id is None else " WHERE user_id = :user_id"
        given = {} if user_id is None else {"user_id": user_id}
        return self.rows(f"SELECT * FROM orders{where} ORDER BY id", **given)

    def order_of(self, page: str) -> Json:
        """Return the order of a checkout page."""
        [row] = self.rows("SELECT * FROM orders WHERE checkout_id = :page", page=page)
        return row

    def events(self) -> list[Json]:
        """Return the webhook inbox, oldest first."""
        return self.rows("SELECT * FROM webhook_events ORDER BY id")

    def cases(self) -> list[Json]:
        """Return all payment cases, oldest first."""
        return self.rows("SELECT * FROM payment_cases ORDER BY id")

    def mails(self) -> list[str]:
        """Return the kinds of all mails, oldest first."""
        return [row["kind"] for row in self.rows("SELECT kind FROM outbox ORDER BY id")]

    def paid_tokens(self, user_id: int) -> int:
        """Return the account's paid tokens."""
        statement = "SELECT paid_tokens FROM balances WHERE user_id = :user_id"
        [row] = self.rows(statement, user_id=user_id)
        return int(row["paid_tokens"])

    def spend(self, user_id: int, tokens: int) -> None:
        """Charge the account's paid tokens as a request would."""
        with self.app.app_context(), transaction():
            factories.usage_event(user_id, charged_paid=tokens)

    def lots(self, user_id: int) -> list[int]:
        """Return the unspent tokens of each lot, oldest first."""
        with self.app.app_context(), transaction():
            return [lot.unspent_tokens for lot in lots.of_account(user_id)]

    def history(self, user_id: int) -> list[str]:
        """Return the states of an account's purchases, newest first."""
        with self.app.app_context(), transaction():
            return [order.state for order in orders.history(user_id).rows]

    def read(self, page: str) -> Json:
        """Ask the provider about a page's order now, and return the order."""
        with self.app.app_context():
            refunds.read_received(self.order_of(page)["number"], self.settings)
        return self.order_of(page)

    def differences(self) -> list[Difference]:
        """Return the differences that `flask ledger verify` would report."""
        with self.app.app_context(), transaction():
            return verification.verify()

    def rows(self, statement: str, **parameters: object) -> list[Json]:
        """Execute and commit a statement, and return its rows."""
        with self.app.app_context(), transaction():
            result = db.session.execute(text(statement), parameters)
            assert isinstance(result, CursorResult)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []
