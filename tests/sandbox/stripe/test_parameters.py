"""The simulated calls know no parameter that Stripe's SDK does not, and require the same ones."""

from typing import Any

import pytest
from stripe import params
from typing_extensions import is_typeddict

from sandbox.stripe import calls
from sandbox.stripe.parameters import Fields
from tests.support.stripe_parameters import CALLS, alternatives, faults_of, members

TABLES = {
    "POST /v1/checkout/sessions": calls.CREATE_SESSION,
    "GET /v1/checkout/sessions": calls.LIST_SESSIONS,
    "POST /v1/refunds": calls.CREATE_REFUND,
    "GET /v1/refunds": calls.LIST_REFUNDS,
    "GET /v1/disputes": calls.LIST_DISPUTES,
    "GET /v1/charges": calls.LIST_CHARGES,
    "GET /v1/payment_intents": calls.LIST_PAYMENT_INTENTS,
    "GET /v1/events": calls.LIST_EVENTS,
    "GET /v1/radar/early_fraud_warnings": calls.LIST_FRAUD_WARNINGS,
}
LINE_ITEM = params.checkout.SessionCreateParamsLineItem
PRICE_DATA = params.checkout.SessionCreateParamsLineItemPriceData


def compare(table: Fields, described: Any, path: str = "") -> None:
    known = members(described)
    assert set(table.checks) <= set(known), path
    assert described.__required_keys__ & set(table.checks) <= set(table.required), path
    for name, check in table.checks.items():
        inner = next((kind for kind in alternatives(known[name]) if is_typeddict(kind)), None)
        if isinstance(check, Fields):
            assert inner is not None, f"{path}{name}"
            compare(check, inner, f"{path}{name}.")


@pytest.mark.parametrize("call", CALLS)
def test_the_tables_follow_the_sdk(call: str) -> None:
    compare(TABLES[call], CALLS[call])


def test_those_of_line_items_too() -> None:
    compare(calls.LINE_ITEM, LINE_ITEM)
    compare(calls.PRICE_DATA, PRICE_DATA)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("mode=payment", ""),
        ("mode=gift", "mode: 'gift' is no"),
        ("mood=payment", "mood: unknown"),
        ("automatic_tax[enabled]=maybe", "automatic_tax.enabled: 'maybe' is no"),
        ("automatic_tax[liability][type]=self", "automatic_tax.enabled: missing"),
        ("line_items[0][quantity]=one", "line_items[0].quantity: 'one' is no"),
        ("line_items[0][price_data][currency]=usd&line_items[0][amount]=1", "amount: unknown"),
        ("metadata=order", "metadata: "),
        ("metadata[order]=1&client_reference_id=P-1&expires_at=1700000000", ""),
    ],
)
def test_wrong_parameters_are_found(body: str, fault: str) -> None:
    found = faults_of({"method": "POST", "path": "/v1/checkout/sessions", "body": body})
    assert fault in " ".join(found) and bool(found) is bool(fault)
    [unknown] = faults_of({"method": "GET", "path": "/v1/charges/ch_1", "query": [["a", "1"]]})
    assert unknown == "a: unknown"
