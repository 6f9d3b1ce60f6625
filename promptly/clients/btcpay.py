"""BTCPay Server's Greenfield API: the few calls that promptly makes, with time limits.

Responses are plain dicts as in BTCPay's API reference. Every call raises ProviderUnavailable,
ProviderRefused or ProviderNotFound. Paths are below the store, except those of pull payments, the
server and the key.
"""

import hashlib
import hmac
import time
from typing import Any
from urllib.parse import quote

import requests

from promptly.clients.provider_errors import ProviderNotFound, ProviderRefused, ProviderUnavailable
from promptly.secret import Secret
from promptly.settings import Settings

Json = dict[str, Any]

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 10.0
PAGE = 100
REASON_LENGTH = 200


class BTCPayAPI:
    """A connection for one task, whose calls share `timeout_seconds`; close it after use."""

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        store = quote(settings.btcpay_store_id, safe="")
        self._url = f"{settings.btcpay_url}/api/v1"
        self._store = f"/stores/{store}"
        self._session = requests.Session()
        # Ignore the environment's proxies and .netrc: the latter would replace our key.
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"token {settings.btcpay_api_key.reveal()}"
        self._deadline = time.monotonic() + timeout_seconds

    def close(self) -> None:
        self._session.close()

    def check(self) -> None:
        """Check address and key with a request that always succeeds."""
        self._list(f"{self._store}/invoices", {"take": "1"})

    def server_info(self) -> Json:
        """Return the server's description, with its version; every key may read it."""
        return self._object("GET", "/server/info")

    def current_key(self) -> Json:
        """Return our key's description: its permissions, but also the key itself."""
        return self._object("GET", "/api-keys/current")

    def create_invoice(self, invoice: Json) -> Json:
        return self._object("POST", f"{self._store}/invoices", json=invoice)

    def invoice(self, invoice_id: str) -> Json:
        return self._object("GET", self._invoice(invoice_id))

    def payment_methods(self, invoice_id: str) -> list[Json]:
        """Return an invoice's payment methods with the payments made by each."""
        return self._list(f"{self._invoice(invoice_id)}/payment-methods", {})

    def invoices_of(self, order_number: str) -> list[Json]:
        """Return the invoices of one of our orders, newest first."""
        return self._list(f"{self._store}/invoices", {"orderId": order_number})

    def invoices_between(self, since: int, until: int, most: int) -> list[Json]:
        """Return up to `most` invoices created from `since` to before `until` (Unix seconds).

        Newest first.
        """
        found: list[Json] = []
        window = {"startDate": str(since), "endDate": str(until - 1), "take": str(PAGE)}
        while len(found) < most:
            page = self._list(f"{self._store}/invoices", window | {"skip": str(len(found))})
            found += page
            if len(page) < PAGE:
                break
        return found[:most]

    def refund_invoice(self, invoice_id: str, refund: Json) -> Json:
        """Create a pull payment: a page where the customer enters the refund's destination."""
        return self._object("POST", f"{self._invoice(invoice_id)}/refund", json=refund)

    def pull_payments(self) -> list[Json]:
        """Return the store's pull payments that are not archived."""
        return self._list(f"{self._store}/pull-payments", {})

    def pull_payment(self, pull_payment_id: str) -> Json:
        """Return a pull payment, archived or not."""
        return self._object("GET", f"/pull-payments/{quote(pull_payment_id, safe='')}")

    def payouts(self, pull_payment_id: str) -> list[Json]:
        """Return the claims of a pull payment that are not cancelled."""
        return self._list(f"/pull-payments/{quote(pull_payment_id, safe='')}/payouts", {})

    def _invoice(self, invoice_id: str) -> str:
        return f"{self._store}/invoices/{quote(invoice_id, safe='')}"

    def _object(self, method: str, path: str, json: Json | None = None) -> Json:
        answer = self._call(method, path, json=json)
        if not isinstance(answer, dict):
            raise ProviderUnavailable("BTCPay's answer cannot be read", answered=True)
        return answer

    def _list(self, path: str, query: dict[str, str]) -> list[Json]:
        answer = self._call("GET", path, query=query)
        if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
            raise ProviderUnavailable("BTCPay's answer cannot be read", answered=True)
        return answer

    def _call(
        self,
        method: str,
        path: str,
        *,
        json: Json | None = None,
        query: dict[str, str] | None = None,
    ) -> Any:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ProviderUnavailable("BTCPay does not answer (no time left)")
        try:
            answer = self._session.request(
                method,
                self._url + path,
                json=json,
                params=query,
                timeout=(min(CONNECT_TIMEOUT_SECONDS, left), min(READ_TIMEOUT_SECONDS, left)),
                # Send the key to no address but the configured one.
                allow_redirects=False,
            )
        except requests.RequestException as problem:
            raise ProviderUnavailable(
                f"BTCPay does not answer ({type(problem).__name__})"
            ) from problem
        if answer.status_code == 200:
            try:
                return answer.json()
            except ValueError as problem:
                raise ProviderUnavailable(
                    "BTCPay's answer cannot be read", answered=True
                ) from problem
        raise _problem(answer)


def signature_is_good(body: bytes, header: str | None, secret: Secret) -> bool:
    """Verify the header `BTCPay-Sig` of a webhook: `sha256=` and a hexadecimal HMAC."""
    digest = hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"sha256={digest}".encode(), (header or "").encode())


def _problem(answer: requests.Response) -> ProviderUnavailable | ProviderRefused:
    status = answer.status_code
    if status == 404:
        return ProviderNotFound("BTCPay has no such object", code="not-found")
    if status in {401, 403}:
        # A misconfiguration, not a fault of the order: retry until the operator corrects it.
        return ProviderUnavailable(
            f"BTCPay refuses our key, or the key lacks a permission ({status})"
        )
    if status < 300 or status >= 500 or status in {408, 409, 425, 429}:
        return ProviderUnavailable(f"BTCPay has an error ({status})", answered=True)
    return ProviderRefused(f"BTCPay refuses ({status}): {_reason(answer)}"[:REASON_LENGTH])


def _reason(answer: requests.Response) -> str:
    # Either one problem with a message, or a list of those, each with the invalid field.
    try:
        body = answer.json()
    except ValueError:
        return "no reason given"
    problems = body if isinstance(body, list) else [body]
    messages = [str(item.get("message")) for item in problems if isinstance(item, dict)]
    return "; ".join(messages) or "no reason given"
