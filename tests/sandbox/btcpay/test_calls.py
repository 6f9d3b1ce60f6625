"""Authentication, refusals, faults, refunds, and state kept over a restart."""

from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.btcpay import SimulatedBTCPay
from sandbox.btcpay.store import (
    ARCHIVE_PULL_PAYMENTS,
    CREATE_INVOICE,
    MODIFY_INVOICES,
    PERMISSIONS,
    VIEW_INVOICES,
)
from sandbox.process import SandboxError, wait_until
from tests.sandbox.btcpay.conftest import Greenfield, NewInvoice, Object, validate


@pytest.fixture
def settled(btcpay: SimulatedBTCPay, new_invoice: NewInvoice) -> Object:
    """An invoice of two dollars, paid over Lightning."""
    return btcpay.pay(new_invoice()["id"])


def test_keys_stores_and_permissions(btcpay: SimulatedBTCPay, api: Greenfield) -> None:
    stranger = Greenfield(btcpay, key="0" * 40)
    assert stranger.call("GET", api.invoices).json()["code"] == "unauthenticated"
    assert stranger.call("GET", api.invoices).status_code == 401
    elsewhere = Greenfield(btcpay, store_id="other")
    assert elsewhere.call("GET", elsewhere.invoices).status_code == 403
    btcpay.set_permissions([CREATE_INVOICE])
    made = api.ok("POST", json={"amount": "2.00", "currency": "USD"})
    refused = api.call("GET", f"{api.invoices}/{made['id']}")
    assert (refused.status_code, refused.json()["missingPermission"]) == (403, VIEW_INVOICES)
    btcpay.set_permissions(PERMISSIONS)
    assert api.ok("GET", f"/{made['id']}") == made
    mark = api.call("POST", f"{api.invoices}/{made['id']}/status", json={"status": "Settled"})
    assert mark.json()["missingPermission"] == MODIFY_INVOICES
    missing = api.call("GET", f"{api.invoices}/none")
    assert (missing.status_code, missing.json()["code"]) == (404, "invoice-not-found")


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"amount": 2.0}, "amount"),
        ({"amount": "two"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"currency": "dollars"}, "currency"),
        ({"orderId": "1"}, "orderId"),
        ({"checkout": {"expirationMinutes": 0}}, "checkout.expirationMinutes"),
        ({"checkout": {"expirationMinutes": "15"}}, "checkout.expirationMinutes"),
        ({"checkout": {"paymentMethods": ["DOGE"]}}, "checkout.paymentMethods"),
        ({"checkout": {"speedPolicy": "Fast"}}, "checkout.speedPolicy"),
        ({"checkout": {"redirectUrl": "http://x"}}, "checkout.redirectUrl"),
    ],
)
def test_wrong_fields_are_named(api: Greenfield, asked: dict[str, Any], path: str) -> None:
    answer = api.call("POST", api.invoices, json=asked)
    assert (answer.status_code, [item["path"] for item in answer.json()]) == (422, [path])


@pytest.mark.parametrize(
    "query",
    [
        "?status=Paid",
        "?take=few",
        "?colour=red",
        "?startDate=2&endDate=1",
        "/{id}/payment-methods?onlyAccountedPayments=1",
    ],
)
def test_wrong_filters_are_named(api: Greenfield, new_invoice: NewInvoice, query: str) -> None:
    url = api.invoices + query.format(id=new_invoice()["id"])
    assert api.call("GET", url).status_code == 422


def test_bodies_that_are_not_objects(api: Greenfield) -> None:
    for body in (b"", b"[]", b"{"):
        answer = api.call("POST", api.invoices, data=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-json")


@pytest.mark.parametrize(
    ("asked", "amount", "currency", "auto"),
    [
        ({"refundVariant": "RateThen"}, "0.00002000", "BTC", True),
        ({"refundVariant": "Fiat"}, "2.00", "USD", False),
        ({"refundVariant": "Fiat", "subtractPercentage": "25"}, "1.50", "USD", False),
        (
            {"refundVariant": "Custom", "customAmount": "0.80", "customCurrency": "USD"},
            "0.80",
            "USD",
            False,
        ),
    ],
)
def test_a_refund_is_a_promise_that_is_claimed(
    btcpay: SimulatedBTCPay,
    api: Greenfield,
    settled: Object,
    asked: Object,
    amount: str,
    currency: str,
    auto: bool,
) -> None:
    made = api.ok("POST", f"/{settled['id']}/refund", json=asked)
    assert (made["amount"], made["currency"], made["autoApproveClaims"]) == (amount, currency, auto)
    promised = btcpay.truth_of(settled["id"])
    assert (promised["held"], promised["refunded"]) == (200, 0)
    url = f"{api.pull_payments}/{made['id']}"
    assert requests.get(url, timeout=10).json() == made
    assert requests.get(f"{url}/payouts", timeout=10).json() == []

    assert "Claim the refund" in requests.get(made["viewLink"], timeout=10).text
    requests.post(made["viewLink"], data={"destination": "bcrt1qada"}, timeout=10)
    if not auto:
        assert requests.get(f"{url}/payouts", timeout=10).json()[0]["state"] == "AwaitingApproval"
        btcpay.pay_out(made["id"])
    [payout] = requests.get(f"{url}/payouts", timeout=10).json()
    assert (payout["state"], payout["destination"]) == ("Completed", "bcrt1qada")
    truth = btcpay.truth_of(settled["id"])
    assert (truth["refunded"], truth["promised"]) == (promised["promised"], 0)
    assert truth["held"] == 200 - truth["refunded"]
    with pytest.raises(SandboxError, match="was claimed"):
        btcpay.claim(made["id"])


def test_refunds_that_are_refused_or_withdrawn(
    btcpay: SimulatedBTCPay, api: Greenfield, new_invoice: NewInvoice, settled: Object
) -> None:
    unpaid = api.call(
        "POST", f"{api.invoices}/{new_invoice()['id']}/refund", json={"refundVariant": "Fiat"}
    )
    assert (unpaid.status_code, unpaid.json()["code"]) == (400, "non-refundable")
    refund = f"{api.invoices}/{settled['id']}/refund"
    for asked, path in [
        ({}, "refundVariant"),
        ({"refundVariant": "OverpaidAmount"}, "refundVariant"),
        ({"refundVariant": "Custom", "customAmount": "0"}, "customAmount"),
        ({"refundVariant": "Fiat", "customAmount": "1"}, "customAmount"),
        ({"refundVariant": "Fiat", "payoutMethods": ["DOGE"]}, "payoutMethods"),
        ({"refundVariant": "Fiat", "payoutMethods": ["BTC-LNURL"]}, "payoutMethods"),
        ({"refundVariant": "Fiat", "payoutMethods": "BTC-LN"}, "payoutMethods"),
        ({"refundVariant": "Fiat", "payoutMethodId": "BTC-LN"}, "payoutMethodId"),
        ({"refundVariant": "Fiat", "name": "n" * 51}, "name"),
        ({"refundVariant": "Fiat", "subtractPercentage": "101"}, "subtractPercentage"),
        ({"refundVariant": "Cash"}, "refundVariant"),
        ({"refundVariant": "Custom", "customCurrency": "USD"}, "customAmount"),
        ({"refundVariant": "Custom", "customAmount": 1.5}, "customAmount"),
        ({"refundVariant": "Custom", "customAmount": "1"}, "customCurrency"),
        ({"refundVariant": "Custom", "customAmount": "1", "customCurrency": "?"}, "customCurrency"),
        ({"refundVariant": "Fiat", "paymentMethod": "BTC"}, "paymentMethod"),
    ]:
        answer = api.call("POST", refund, json=asked)
        assert (answer.status_code, answer.json()[0]["path"]) == (422, path)
    # The documented key cannot create a refund that needs no further approval.
    btcpay.set_permissions([*PERMISSIONS, ARCHIVE_PULL_PAYMENTS])
    made = api.ok("POST", f"/{settled['id']}/refund", json={"refundVariant": "RateThen"})
    assert made["autoApproveClaims"] is False
    store = api.invoices.removesuffix("/invoices")
    assert api.call("GET", f"{store}/pull-payments").json() == [made]
    withdrawn = api.call("DELETE", f"{store}/pull-payments/{made['id']}")
    assert (withdrawn.status_code, withdrawn.text) == (200, "")
    assert btcpay.truth_of(settled["id"])["promised"] == 0
    assert api.call("GET", f"{store}/pull-payments").json() == []
    with pytest.raises(SandboxError, match="archived"):
        btcpay.claim(made["id"])


def test_the_default_payout_method_is_the_invoices_default_payment_method(
    btcpay: SimulatedBTCPay, api: Greenfield, new_invoice: NewInvoice
) -> None:
    """Even LNURL, which the server itself cannot pay out: then it refuses every such refund."""
    btcpay.set_settings(methods=["BTC-LN", "BTC-LNURL"])
    lightning = btcpay.pay(new_invoice()["id"], method="BTC-LNURL")
    refund = f"{api.invoices}/{lightning['id']}/refund"
    asked = {"refundVariant": "Fiat"}
    assert api.call("POST", refund, json=asked).json()[0]["path"] == "payoutMethods"
    made = api.call("POST", refund, json={**asked, "payoutMethods": ["BTC-LN"]}).json()
    with pytest.raises(SandboxError, match="BTC-LN only"):
        btcpay.claim(made["id"], "bcrt1qada")
    btcpay.claim(made["id"], "lnbcrt1ada")
    [payout] = requests.get(f"{api.pull_payments}/{made['id']}/payouts", timeout=10).json()
    assert payout["payoutMethodId"] == "BTC-LN"
    btcpay.set_settings(default_method="BTC-CHAIN", version="2.3.0")
    both = btcpay.pay(new_invoice()["id"])
    made = api.ok("POST", f"/{both['id']}/refund", json={**asked, "payoutMethodId": "BTC-LN"})
    btcpay.claim(made["id"])
    made = api.ok("POST", f"/{both['id']}/refund", json=asked)
    btcpay.claim(made["id"], "bcrt1qada")
    listed = {**asked, "payoutMethods": ["BTC-LN"]}
    assert api.call("POST", f"{api.invoices}/{both['id']}/refund", json=listed).status_code == 422


def test_version_and_permissions(btcpay: SimulatedBTCPay, api: Greenfield) -> None:
    base = api.pull_payments.removesuffix("/pull-payments")
    btcpay.set_permissions([CREATE_INVOICE])
    assert api.call("GET", f"{base}/server/info").json()["version"] == "2.4.1"
    key = api.call("GET", f"{base}/api-keys/current").json()
    assert key["permissions"] == [f"{CREATE_INVOICE}:{btcpay.store_id}"]
    assert requests.get(f"{base}/server/info", timeout=10).status_code == 401


def test_the_surplus_can_be_refunded(
    btcpay: SimulatedBTCPay, api: Greenfield, new_invoice: NewInvoice
) -> None:
    over = btcpay.pay(new_invoice()["id"], share="1.5")
    made = api.ok("POST", f"/{over['id']}/refund", json={"refundVariant": "OverpaidAmount"})
    assert (made["amount"], made["currency"]) == ("0.00001000", "BTC")


def test_faults(btcpay: SimulatedBTCPay, api: Greenfield) -> None:
    create = "POST /api/v1/stores/*/invoices"
    asked = {"amount": "2.00", "currency": "USD"}
    btcpay.set_fault(create, status=503, times=1)
    proxy = api.call("POST", api.invoices, json=asked)
    assert (proxy.status_code, proxy.headers["Content-Type"]) == (503, "text/html")
    btcpay.set_fault(create, status=500, when="after", times=1)
    assert api.call("POST", api.invoices, json=asked).status_code == 500
    assert len(api.ok("GET")) == 1  # the invoice was created despite the error
    btcpay.set_fault(create, cut=True, times=1)
    with pytest.raises(requests.ConnectionError):
        api.call("POST", api.invoices, json=asked)
    btcpay.set_fault(create, seconds=1.0, times=1)
    with pytest.raises(requests.Timeout):
        requests.post(api.invoices, json=asked, headers=api.headers, timeout=0.3)
    wait_until(lambda: len(api.ok("GET")) == 2, 10, "the late invoice")


def test_the_state_is_kept_over_a_restart(tmp_path: Path) -> None:
    btcpay = SimulatedBTCPay(tmp_path / "btcpay", persistent=True, confirm_seconds=0).start()
    try:
        api = Greenfield(btcpay)
        made = api.ok("POST", json={"amount": "2.00", "currency": "USD"})
        btcpay.pay(made["id"], method="BTC-CHAIN")
        wait_until(lambda: btcpay.invoice(made["id"])["status"] == "Settled", 10, "a block")
        before = btcpay.truth()
        validate(btcpay)
        btcpay.restart()
        assert btcpay.truth() == before
    finally:
        btcpay.stop()
