"""The pages for paying an invoice (``/i/{invoice}``) and for claiming a refund."""

from collections.abc import Callable

from sandbox.btcpay import accounting, invoices, refunds
from sandbox.btcpay.accounting import Invoice
from sandbox.btcpay.errors import ApiError
from sandbox.btcpay.store import LIGHTNING, ON_CHAIN, Store
from sandbox.provider import pages
from sandbox.provider.control import Refused
from sandbox.provider.http import Answer, Request, Routes, form, see_other

# By button: the share of the price, the payment method, and the label.
PAYMENTS = {
    "lightning": ("1", LIGHTNING, "Pay with Lightning"),
    "chain": ("1", ON_CHAIN, "Pay on-chain"),
    "partly": ("0.5", ON_CHAIN, "Pay half"),
    "too-much": ("1.5", ON_CHAIN, "Overpay by half"),
    "late": ("1", ON_CHAIN, "Pay late"),
}


def add_pages(routes: Routes, store: Store) -> None:
    """Serve both pages and handle their buttons."""

    def show(request: Request) -> Answer:
        with store.lock:
            return _found(lambda: _page(store.invoice(request.values["id"])))

    def act(request: Request) -> Answer:
        with store.lock:
            return _found(lambda: _act(store, request.values["id"], form(request)))

    def show_claim(request: Request) -> Answer:
        with store.lock:
            return _found(lambda: _claim_page(store, request.values["id"]))

    def act_claim(request: Request) -> Answer:
        with store.lock:
            return _found(lambda: _claim(store, request.values["id"], form(request)))

    routes.add("GET", "/i/{id}", show)
    routes.add("POST", "/i/{id}", act)
    routes.add("GET", "/pull-payments/{id}", show_claim)
    routes.add("POST", "/pull-payments/{id}", act_claim)


def _page(invoice: Invoice) -> Answer:
    account = accounting.account(invoice)
    rows = [
        ("Order", str(invoice["metadata"].get("orderId", ""))),
        ("Price", f"{invoice['amount'] or 'any'} {invoice['currency']}"),
        ("Paid so far", f"{account.paid:f} BTC"),
        ("Still due", f"{max(account.due, accounting.UNPAID):f} BTC"),
        ("Status", f"{invoice['status']} ({invoice['additional']})"),
        ("Address", invoice["address"]),
    ]
    buttons = [pages.button("action", *item) for item in _actions(invoice)]
    content = [pages.facts(rows), pages.form("\n".join(buttons)) if buttons else ""]
    back = _redirect(invoice)
    if back:
        content.append(pages.link(back, "Return to the shop"))
    return pages.page("Simulated BTCPay checkout", "\n".join(content))


def _actions(invoice: Invoice) -> list[tuple[str, str]]:
    """Return the page's buttons as pairs of action and label."""
    offered: list[str] = []
    if invoice["status"] == "New":
        offered = ["lightning", "chain", "partly", "too-much"]
    elif invoice["status"] == "Expired" and invoice["additional"] != "PaidLate":
        offered = ["late"]
    methods = invoice["checkout"]["paymentMethods"]
    found = [(name, PAYMENTS[name][2]) for name in offered if PAYMENTS[name][1] in methods]
    if any(item["status"] == "Processing" for item in invoice["payments"]):
        found += [("confirm", "Mine a block"), ("replace", "Replace the payment")]
    return found


def _act(store: Store, invoice_id: str, given: dict[str, str]) -> Answer:
    invoice = store.invoice(invoice_id)
    action = given.get("action", "")
    if action in [name for name, _ in _actions(invoice)]:
        try:
            if action == "confirm":
                invoices.confirm(store, invoice_id)
            elif action == "replace":
                invoices.replace(store, invoice_id)
            else:
                share, method, _ = PAYMENTS[action]
                invoices.pay(store, invoice_id, share=share, method=method)
        except Refused as refusal:
            return pages.page(str(refusal), "", 409)
    paid = invoice["status"] in ("Processing", "Settled")
    if paid and invoice["checkout"]["redirectAutomatically"] and _redirect(invoice):
        return see_other(_redirect(invoice))
    return _page(invoice)


def _redirect(invoice: Invoice) -> str:
    """Return the shop's return address for the customer, or an empty string."""
    address = invoice["checkout"]["redirectURL"] or ""
    order = str(invoice["metadata"].get("orderId", ""))
    return address.replace("{InvoiceId}", invoice["id"]).replace("{OrderId}", order)


def _claim_page(store: Store, pull_payment_id: str) -> Answer:
    found = store.pull_payment(pull_payment_id)
    rows = [("Refund", found["name"]), ("Amount", f"{found['amount']} {found['currency']}")]
    rows.append(("Paid out by", " or ".join(found["methods"])))
    if found["archived"]:
        rows.append(("Status", "withdrawn"))
    elif found["claimed"] is not None:
        rows.append(("Status", found["claimed"]))
    else:
        field = '<label>Your address <input name="destination" required></label>'
        inner = field + pages.button("action", "claim", "Claim the refund")
        return pages.page("Simulated BTCPay refund", pages.facts(rows) + pages.form(inner))
    return pages.page("Simulated BTCPay refund", pages.facts(rows))


def _claim(store: Store, pull_payment_id: str, given: dict[str, str]) -> Answer:
    try:
        refunds.claim(store, pull_payment_id, given.get("destination", ""))
        if store.pull_payment(pull_payment_id)["auto"]:
            refunds.pay_out(store, pull_payment_id)
    except Refused as refusal:
        return pages.page(str(refusal), "", 409)
    return _claim_page(store, pull_payment_id)


def _found(show: Callable[[], Answer]) -> Answer:
    try:
        return show()
    except ApiError:
        return pages.page("There is no such page", "", 404)
