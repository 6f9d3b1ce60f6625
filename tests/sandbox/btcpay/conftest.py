"""Fixtures: one simulated BTCPay Server per module, emptied before each test.

After each test, every answer and event it has sent is validated against the schema.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
import requests

from sandbox.btcpay import SimulatedBTCPay, schema
from sandbox.btcpay.store import (
    ARCHIVE_PULL_PAYMENTS,
    CREATE_PULL_PAYMENTS,
    MODIFY_INVOICES,
    PERMISSIONS,
)

FURTHER = (MODIFY_INVOICES, CREATE_PULL_PAYMENTS, ARCHIVE_PULL_PAYMENTS)

Object = dict[str, Any]
NewInvoice = Callable[..., Object]


class Greenfield:
    """A shop's API client: ``call`` returns the response, ``ok`` its JSON after asserting 200."""

    def __init__(self, btcpay: SimulatedBTCPay, key: str = "", store_id: str = "") -> None:
        self.invoices = f"{btcpay.url}/api/v1/stores/{store_id or btcpay.store_id}/invoices"
        self.pull_payments = f"{btcpay.url}/api/v1/pull-payments"
        self.headers = {"Authorization": f"token {key or btcpay.api_key}"}

    def call(self, method: str, url: str, **others: Any) -> requests.Response:
        return requests.request(method, url, headers=self.headers, timeout=10, **others)

    def ok(self, method: str, path: str = "", **others: Any) -> Any:
        answer = self.call(method, self.invoices + path, **others)
        assert answer.status_code == 200, answer.text
        return answer.json()


def validate(btcpay: SimulatedBTCPay) -> tuple[int, int]:
    """Validate everything sent against the schema; return the numbers of answers and of events."""
    answers = [item for item in btcpay.requests() if item["status"] not in (0, 500, 502, 503)]
    for item in answers:
        described = schema.of_answer(item["method"], item["path"], item["status"])
        value = json.loads(item["answer"]) if item["answer"] else ""
        jsonschema.validate(value, described, cls=jsonschema.Draft202012Validator)
    attempts = btcpay.attempts()
    for item in attempts:
        event = json.loads(item["body"])
        jsonschema.validate(event, schema.EVENTS[event["type"]])
    return len(answers), len(attempts)


@pytest.fixture(scope="module")
def running_btcpay() -> Iterator[SimulatedBTCPay]:
    server = SimulatedBTCPay(retry_seconds=(0.02, 0.05, 0.1)).start()
    yield server
    server.stop()


@pytest.fixture
def btcpay(running_btcpay: SimulatedBTCPay) -> Iterator[SimulatedBTCPay]:
    running_btcpay.reset()
    running_btcpay.set_webhook("")
    # The documented key's permissions, and the others that the simulator supports.
    running_btcpay.set_permissions([*PERMISSIONS, *FURTHER])
    yield running_btcpay
    validate(running_btcpay)


@pytest.fixture
def api(btcpay: SimulatedBTCPay) -> Greenfield:
    return Greenfield(btcpay)


@pytest.fixture
def new_invoice(api: Greenfield) -> NewInvoice:
    """Factory for invoices of two dollars; checkout options are keyword arguments."""

    def build(amount: str | None = "2.00", order: str = "order-1", **checkout: Any) -> Object:
        asked = {"amount": amount, "currency": "USD", "metadata": {"orderId": order}}
        made: Object = api.ok("POST", json={**asked, "checkout": checkout})
        return made

    return build
