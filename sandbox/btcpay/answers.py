"""Objects as the API shows them: amounts are strings, times are Unix seconds."""

from decimal import Decimal
from typing import Any

from sandbox.btcpay import accounting
from sandbox.btcpay.accounting import Invoice, text


def invoice(found: Invoice, store_id: str, base_url: str, markable: list[str]) -> dict[str, Any]:
    account = accounting.account(found)
    paid = accounting.in_currency(found, account.paid)
    is_top_up = found["amount"] is None or found.get("top_up", False)
    return {
        "id": found["id"],
        "storeId": store_id,
        "amount": found["amount"] or "0",
        "paidAmount": text(paid),
        "currency": found["currency"],
        "type": "TopUp" if is_top_up else "Standard",
        "checkoutLink": f"{base_url}/i/{found['id']}",
        "createdTime": found["created"],
        "expirationTime": found["expires"],
        "monitoringExpiration": found["monitored"],
        "status": found["status"],
        "additionalStatus": found["additional"],
        "availableStatusesForManualMarking": markable,
        "archived": False,
        "metadata": found["metadata"],
        "checkout": found["checkout"],
        "receipt": {"enabled": True, "showQR": None, "showPayments": None},
    }


def payment_methods(found: Invoice) -> list[dict[str, Any]]:
    """Return the payment methods of an invoice, with the payments made by each."""
    account = accounting.account(found)
    total = account.total if account.total is not None else account.paid
    methods = []
    for method in found["checkout"]["paymentMethods"]:
        payments = [
            item
            for item in found["payments"]
            if item["method"] == method and item["status"] != "Invalid"
        ]
        on_chain = method == "BTC-CHAIN"
        destination = found["address"] if on_chain else found["bolt11"]
        link = f"bitcoin:{destination}?amount={text(account.due)}"
        paid = sum((Decimal(item["value"]) for item in payments), Decimal(0))
        methods.append(
            {
                "paymentMethodId": method,
                "currency": "BTC",
                "destination": destination,
                "paymentLink": link if on_chain else f"lightning:{destination}",
                "rate": found["rate"],
                "paymentMethodPaid": text(paid),
                "totalPaid": text(account.paid),
                "due": text(account.due),
                "amount": text(total),
                "paymentMethodFee": "0",
                "payments": [payment(item) for item in payments],
                "activated": True,
                "additionalData": {},
            }
        )
    return methods


def payment(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": item["id"],
        "receivedDate": item["received"],
        "value": text(Decimal(item["value"])),
        "fee": "0",
        "status": item["status"],
        "destination": item["destination"],
    }


def pull_payment(found: dict[str, Any], base_url: str) -> dict[str, Any]:
    """Return a pull payment, which its recipient claims at ``viewLink``."""
    return {
        "id": found["id"],
        "name": found["name"],
        "description": found["description"],
        "currency": found["currency"],
        "amount": found["amount"],
        "BOLT11Expiration": "30",
        "autoApproveClaims": found["auto"],
        "archived": found["archived"],
        "startsAt": found["created"],
        "expiresAt": None,
        "viewLink": f"{base_url}/pull-payments/{found['id']}",
    }


def server(version: str, methods: list[str]) -> dict[str, Any]:
    return {
        "version": version,
        "supportedPaymentMethods": methods,
        "fullySynched": True,
        "syncStatus": [],
    }


def key(api_key: str, permissions: list[str], store_id: str) -> dict[str, Any]:
    """Return the description of an API key, whose permissions are for one store."""
    return {
        "apiKey": api_key,
        "label": "promptly",
        "permissions": [f"{permission}:{store_id}" for permission in permissions],
    }


def payouts(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the claims of a pull payment: here all of it at once, or none."""
    if found["claimed"] is None:
        return []
    is_paid = found["claimed"] == "Completed"
    proof = {"paymentProof": {"proofType": "Manual"}} if is_paid else {}
    return [
        {
            "id": f"payout-{found['id']}",
            "revision": 0,
            "pullPaymentId": found["id"],
            "date": str(found["claimed_at"]),
            "destination": found["destination"],
            "originalCurrency": found["currency"],
            "originalAmount": found["amount"],
            "payoutCurrency": "BTC",
            "payoutAmount": found["bitcoin"] if is_paid else None,
            "payoutMethodId": found["method"],
            "state": found["claimed"],
            "metadata": {},
            **proof,
        }
    ]
