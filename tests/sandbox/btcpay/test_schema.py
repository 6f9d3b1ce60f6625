"""The schema rejects the mistakes it exists to catch."""

import copy
import json
from typing import Any

import jsonschema
import pytest

from sandbox.btcpay import SimulatedBTCPay, schema
from sandbox.btcpay.webhooks import TYPES
from tests.sandbox.btcpay.conftest import NewInvoice
from tests.sandbox.receiver import Receiver


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 2.0),
        ("amount", "2e0"),
        ("status", "Paid"),
        ("additionalStatus", None),
        ("createdTime", "2026-11-23"),
        ("archived", "false"),
        ("surprise", 1),
    ],
)
def test_a_wrong_invoice_is_found(new_invoice: NewInvoice, field: str, value: Any) -> None:
    invoice = new_invoice()
    jsonschema.validate(invoice, schema.INVOICE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**invoice, field: value}, schema.INVOICE)
    del invoice["paidAmount"]
    with pytest.raises(jsonschema.ValidationError, match="paidAmount"):
        jsonschema.validate(invoice, schema.INVOICE)


def test_a_wrong_event_is_found(
    btcpay: SimulatedBTCPay, receiver: Receiver, new_invoice: NewInvoice
) -> None:
    btcpay.set_webhook(receiver.url)
    btcpay.pay(new_invoice()["id"])
    btcpay.wait_until_quiet()
    event = next(
        item
        for item in map(json.loads, (request.body for request in receiver.requests))
        if item["type"] == "InvoiceReceivedPayment"
    )
    described = schema.EVENTS["InvoiceReceivedPayment"]
    jsonschema.validate(event, described)
    broken = copy.deepcopy(event)
    broken["payment"]["value"] = 0.00002
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, described)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**event, "status": "Settled"}, described)


def test_every_kind_of_event_is_described() -> None:
    assert set(schema.EVENTS) == set(TYPES)
    for described in (*schema.EVENTS.values(), *schema.ANSWERS.values()):
        jsonschema.Draft202012Validator.check_schema(described)
