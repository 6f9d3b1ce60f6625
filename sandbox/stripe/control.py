"""Control routes: actions of the customer, the bank and a careless operator."""

from typing import Any

from sandbox.provider.control import Action, Refused, add_action, signed_as_json
from sandbox.provider.http import Routes
from sandbox.provider.sender import Sender
from sandbox.stripe import checkout, forgeries, reversals
from sandbox.stripe.account import Account
from sandbox.stripe.errors import ApiError
from sandbox.stripe.objects import Object
from sandbox.stripe.webhooks import Endpoint

Values = dict[str, Any]


def add_control(routes: Routes, account: Account, sender: Sender) -> None:
    """Add the control routes of this stand-in."""

    def act(name: str, action: Action) -> None:
        def locked(values: Values) -> Any:
            with account.lock:
                try:
                    return action(values)
                except ApiError as error:
                    raise Refused(str(error)) from None

        add_action(routes, name, locked)

    def forge(values: Values) -> Any:
        with account.lock:
            signed = forgeries.forge(account, **_forgery(values))
            url = account.endpoints[0].url
        return sender.send(url, signed.headers, signed.body)

    act("endpoints", lambda values: _set_endpoints(account, values["endpoints"]))
    act("dashboard", lambda values: _set_dashboard(account, **values))
    act("pay", lambda values: account.shown(checkout.pay(account, **values)))
    act("settle", lambda values: account.shown(checkout.settle(account, **values)))
    act("expire", lambda values: account.shown(checkout.expire(account, **values)))
    act("refund", lambda v: account.shown(reversals.refund(account, v["refund"], v["status"])))
    act("refund/succeed", lambda values: account.shown(reversals.succeed_refund(account, **values)))
    act("refund/fail", lambda values: account.shown(reversals.fail_refund(account, **values)))
    act("dispute", lambda values: account.shown(reversals.open_dispute(account, **values)))
    act("dispute/update", lambda values: account.shown(reversals.update_dispute(account, **values)))
    act("dispute/close", lambda values: account.shown(reversals.close_dispute(account, **values)))
    act("fraud-warning", lambda values: account.shown(reversals.warn_of_fraud(account, **values)))
    act("truth", lambda _: reversals.truth(account))
    act("object", lambda values: account.shown(account.objects[values["id"]]))
    act("objects", lambda values: [account.shown(item) for item in account.every(values["kind"])])
    act("alter", lambda values: _alter(account, values["id"], values["fields"]))
    act("advance", lambda values: _advance(account, values["seconds"]))
    act("forged", lambda v: signed_as_json(forgeries.forge(account, **_forgery(v))))
    # Sent without the lock: the receiver may call our API about it.
    add_action(routes, "forge", forge)


def _forgery(values: Values) -> Values:
    return {"session": None, "thin": False, **values}


def _set_endpoints(account: Account, endpoints: list[Values]) -> None:
    account.endpoints = [Endpoint(**values) for values in endpoints]


def _set_dashboard(
    account: Account, default_tax_percent: int, has_terms: bool, permissions: list[str] | None
) -> None:
    account.default_tax_percent = default_tax_percent
    account.has_terms = has_terms
    account.permissions = permissions


def _alter(account: Account, object_id: str, fields: Values) -> Object:
    """Change fields of an object silently, without an event."""
    item = account.objects[object_id]
    unknown = set(fields) - set(item)
    if unknown:
        raise Refused(f"unknown: {', '.join(sorted(unknown))}")
    item.update(fields)
    return account.shown(item)


def _advance(account: Account, seconds: int) -> int:
    """Advance the account's clock and expire what is due."""
    account.advanced_seconds += int(seconds)
    checkout.expire_overdue(account)
    return account.now()
