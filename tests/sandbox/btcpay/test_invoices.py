"""Invoices over the Greenfield API and the checkout page, in every state they can reach."""

import pytest
import requests

from sandbox.btcpay import SimulatedBTCPay
from sandbox.process import SandboxError
from tests.sandbox.btcpay.conftest import Greenfield, NewInvoice, Object

CHAIN = "BTC-CHAIN"


def state(invoice: Object) -> tuple[str, str]:
    return invoice["status"], invoice["additionalStatus"]


def press(invoice: Object, action: str) -> requests.Response:
    link = invoice["checkoutLink"]
    return requests.post(link, data={"action": action}, allow_redirects=False, timeout=10)


def test_an_invoice_is_created_and_found_again(api: Greenfield, new_invoice: NewInvoice) -> None:
    made = [new_invoice(order=f"order-{number}") for number in range(5)]
    assert state(made[0]) == ("New", "None")
    assert (made[0]["amount"], made[0]["paidAmount"]) == ("2.00", "0")
    assert made[0]["expirationTime"] - made[0]["createdTime"] == 15 * 60
    assert made[0]["monitoringExpiration"] - made[0]["expirationTime"] == 1440 * 60
    ids = [item["id"] for item in made]
    assert api.ok("GET", f"/{ids[1]}") == made[1]
    assert [item["id"] for item in api.ok("GET")] == ids[::-1]
    assert [item["id"] for item in api.ok("GET", "?skip=1&take=2")] == [ids[3], ids[2]]
    assert [item["id"] for item in api.ok("GET", "?orderId=order-1&orderId=order-4")] == [
        ids[4],
        ids[1],
    ]
    assert api.ok("GET", "?status=Settled&status=Expired") == []
    assert len(api.ok("GET", f"?startDate={made[0]['createdTime']}&status=New")) == 5
    assert api.ok("GET", f"?endDate={made[0]['createdTime'] - 1}") == []


def test_lightning_settles_at_once_and_leads_back(
    btcpay: SimulatedBTCPay, api: Greenfield, new_invoice: NewInvoice
) -> None:
    back = "http://shop.example/back?order={OrderId}&invoice={InvoiceId}"
    invoice = new_invoice(redirectURL=back, redirectAutomatically=True)
    page = requests.get(invoice["checkoutLink"], timeout=10).text
    assert "0.00002000 BTC" in page and "<script" not in page
    answer = press(invoice, "lightning")
    assert answer.status_code == 303
    expected = back.replace("{OrderId}", "order-1").replace("{InvoiceId}", invoice["id"])
    assert answer.headers["Location"] == expected
    paid = api.ok("GET", f"/{invoice['id']}")
    assert (state(paid), paid["paidAmount"]) == (("Settled", "None"), "2.00")
    methods = {
        item["paymentMethodId"]: item for item in api.ok("GET", f"/{paid['id']}/payment-methods")
    }
    assert methods["BTC-LN"]["payments"][0]["status"] == "Settled"
    assert (methods["BTC-LN"]["due"], methods[CHAIN]["payments"]) == ("0", [])
    assert btcpay.truth_of(paid["id"])["held"] == 200
    assert "Pay with" not in requests.get(invoice["checkoutLink"], timeout=10).text


def test_the_chain_waits_for_a_block(api: Greenfield, new_invoice: NewInvoice) -> None:
    invoice = new_invoice()
    assert "Mine a block" in press(invoice, "chain").text
    assert state(api.ok("GET", f"/{invoice['id']}")) == ("Processing", "None")
    press(invoice, "confirm")
    assert state(api.ok("GET", f"/{invoice['id']}")) == ("Settled", "None")


def test_a_replaced_payment_falls_back_to_new(
    btcpay: SimulatedBTCPay, new_invoice: NewInvoice
) -> None:
    invoice = new_invoice()
    btcpay.pay(invoice["id"], method=CHAIN)
    assert state(btcpay.replace(invoice["id"])) == ("New", "None")
    btcpay.pay(invoice["id"], method=CHAIN)
    assert state(btcpay.confirm(invoice["id"])) == ("Settled", "None")
    with pytest.raises(SandboxError, match="confirmed"):
        btcpay.replace(invoice["id"])
    assert btcpay.truth_of(invoice["id"])["settled"] == 200


@pytest.mark.parametrize("share", ["0.25", "1", "1.5"])
def test_partial_full_and_over(
    btcpay: SimulatedBTCPay, new_invoice: NewInvoice, share: str
) -> None:
    invoice = new_invoice()
    btcpay.pay(invoice["id"], share=share, method=CHAIN)
    after = btcpay.confirm(invoice["id"])
    assert (state(after), after["paidAmount"]) == {
        "0.25": (("New", "PaidPartial"), "0.50"),
        "1": (("Settled", "None"), "2.00"),
        "1.5": (("Settled", "PaidOver"), "3.00"),
    }[share]
    btcpay.advance(16 * 60)
    ended = btcpay.invoice(invoice["id"])
    assert state(ended) == (("Expired", "PaidPartial") if share == "0.25" else state(after))


def test_two_partial_payments_make_a_whole_one(
    btcpay: SimulatedBTCPay, new_invoice: NewInvoice
) -> None:
    invoice = new_invoice()
    assert state(btcpay.pay(invoice["id"], share="0.5")) == ("New", "PaidPartial")
    assert state(btcpay.pay(invoice["id"], share="0.5")) == ("Settled", "None")


@pytest.mark.parametrize("first", ["", "0.5"])
def test_late_money_leaves_the_invoice_expired(
    btcpay: SimulatedBTCPay, new_invoice: NewInvoice, first: str
) -> None:
    invoice = new_invoice()
    if first:
        btcpay.pay(invoice["id"], share=first)
    btcpay.advance(16 * 60)
    assert state(btcpay.invoice(invoice["id"])) == ("Expired", "PaidPartial" if first else "None")
    with pytest.raises(SandboxError, match="Lightning"):
        btcpay.pay(invoice["id"])
    assert "Pay late" in requests.get(invoice["checkoutLink"], timeout=10).text
    press(invoice, "late")
    late = btcpay.confirm(invoice["id"])
    assert state(late) == ("Expired", "PaidLate")
    assert state(btcpay.mark(invoice["id"], "Settled")) == ("Settled", "Marked")
    btcpay.advance(1441 * 60)
    with pytest.raises(SandboxError, match="no longer monitored"):
        btcpay.pay(invoice["id"], method=CHAIN)


def test_an_unconfirmed_payment_becomes_invalid(
    btcpay: SimulatedBTCPay, new_invoice: NewInvoice
) -> None:
    invoice = new_invoice()
    btcpay.pay(invoice["id"], method=CHAIN)
    btcpay.advance((15 + 1440) * 60 + 1)
    assert state(btcpay.invoice(invoice["id"])) == ("Invalid", "None")


def test_marking_by_hand(btcpay: SimulatedBTCPay, api: Greenfield, new_invoice: NewInvoice) -> None:
    settled, marked = new_invoice()["id"], new_invoice()["id"]
    btcpay.pay(settled)
    # An invoice that a payment settled cannot be marked invalid; a marked one can be marked again.
    refused = api.call("POST", f"{api.invoices}/{settled}/status", json={"status": "Invalid"})
    assert (refused.status_code, refused.json()[0]["path"]) == (422, "status")
    for status in ("Settled", "Invalid", "Settled"):
        found = api.ok("POST", f"/{marked}/status", json={"status": status})
        assert state(found) == (status, "Marked")
    assert btcpay.truth_of(marked)["held"] == 0


def test_a_top_up_takes_any_payment(btcpay: SimulatedBTCPay, new_invoice: NewInvoice) -> None:
    invoice = new_invoice(amount=None)
    assert invoice["type"] == "TopUp"
    after = btcpay.pay(invoice["id"], share="0.001", method=CHAIN)
    assert state(after) == ("Processing", "None")


def test_tolerance_and_speed(btcpay: SimulatedBTCPay, new_invoice: NewInvoice) -> None:
    tolerant = new_invoice(paymentTolerance=10)
    assert state(btcpay.pay(tolerant["id"], share="0.89"))[0] == "New"
    assert state(btcpay.pay(tolerant["id"], share="0.01"))[0] == "Settled"
    fast = new_invoice(speedPolicy="HighSpeed", paymentMethods=[CHAIN])
    assert state(btcpay.pay(fast["id"], method=CHAIN))[0] == "Settled"
    with pytest.raises(SandboxError, match="method must be"):
        btcpay.pay(fast["id"], method="BTC-LN")
