"""Control routes: actions of the customer, the miners and a careless operator."""

from typing import Any

from sandbox.btcpay import forgeries, invoices, refunds, requests
from sandbox.btcpay.api import Api
from sandbox.btcpay.errors import ApiError, Invalid
from sandbox.btcpay.store import Store
from sandbox.btcpay.webhooks import Webhook
from sandbox.provider.control import Action, Refused, add_action, signed_as_json
from sandbox.provider.http import Routes
from sandbox.provider.sender import Sender

Values = dict[str, Any]


def add_control(routes: Routes, store: Store, sender: Sender, api: Api) -> None:
    """Add the control routes of this stand-in."""

    def act(name: str, action: Action) -> None:
        def locked(values: Values) -> Any:
            with store.lock:
                try:
                    return action(values)
                except (ApiError, Invalid) as error:
                    raise Refused(str(error)) from None

        add_action(routes, name, locked)

    def forge(values: Values) -> Any:
        with store.lock:
            signed = forgeries.forge(store, values["kind"], values.get("invoice"))
            assert store.webhook is not None
            url = store.webhook.url
        return sender.send(url, signed.headers, signed.body)

    act("webhook", lambda values: _set_webhook(store, values))
    act("permissions", lambda values: _set_permissions(store, values["permissions"]))
    act("settings", lambda values: _set_settings(store, **values))
    act("pay", lambda values: api.shown(invoices.pay(store, **values)))
    act("confirm", lambda values: api.shown(invoices.confirm(store, **values)))
    act("replace", lambda values: api.shown(invoices.replace(store, **values)))
    act("mark", lambda values: api.shown(invoices.mark(store, **values)))
    act("claim", lambda values: refunds.claim(store, **values))
    act("pay-out", lambda values: refunds.pay_out(store, **values))
    act("refund", lambda values: _refund(store, **values))
    act("archive", lambda values: refunds.archive(store, **values))
    act("refunds", lambda values: refunds.of_invoice(store, values["invoice_id"]))
    act("truth", lambda _: refunds.truth(store))
    act("invoice", lambda values: api.shown(store.invoice(values["id"])))
    act("alter", lambda values: _alter(store, api, values["id"], values["fields"]))
    act("advance", lambda values: _advance(store, values["seconds"]))
    act(
        "forged",
        lambda values: signed_as_json(
            forgeries.forge(store, values["kind"], values.get("invoice"))
        ),
    )
    # Sent without the lock: the receiver may call our API about it.
    add_action(routes, "forge", forge)


def _set_webhook(store: Store, values: Values) -> None:
    store.webhook = Webhook(**values) if values["url"] else None


def _set_permissions(store: Store, permissions: list[str]) -> None:
    store.permissions = permissions


def _set_settings(
    store: Store, methods: list[str], default_method: str | None, version: str
) -> None:
    store.methods, store.default_method, store.version = methods, default_method, version


def _refund(store: Store, invoice_id: str, variant: str, called: str) -> Any:
    """Refund an invoice in the server's own pages."""
    asked: Values = dict.fromkeys(requests.REFUND) | {"refundVariant": variant, "name": called}
    return refunds.refund(store, invoice_id, asked)


def _alter(store: Store, api: Api, invoice_id: str, fields: Values) -> Any:
    """Change fields of an invoice silently, without an event."""
    invoice = store.invoice(invoice_id)
    unknown = set(fields) - set(invoice)
    if unknown:
        raise Refused(f"unknown: {', '.join(sorted(unknown))}")
    invoice.update(fields)
    return api.shown(invoice)


def _advance(store: Store, seconds: int) -> int:
    """Advance the store's clock and update all invoices."""
    store.advanced_seconds += int(seconds)
    for invoice in store.invoices.values():
        invoices.update(store, invoice)
    return store.now()
