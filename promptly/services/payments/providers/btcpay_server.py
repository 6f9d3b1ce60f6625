"""Requirements of a BTCPay Server and of our key for it, as advice to the operator."""

import re
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]

# Since this version invoices say how much was paid.
OLDEST = (2, 1, 2)

NEEDED = (
    "btcpay.store.cancreateinvoice",
    "btcpay.store.canviewinvoices",
    "btcpay.store.cancreatenonapprovedpullpayments",
    "btcpay.store.canviewpullpayments",
)

# The permissions that include another one, as far as they matter here.
_INCLUDED = {
    "unrestricted": ("btcpay.store.canmodifystoresettings",),
    "btcpay.store.canmodifystoresettings": (
        "btcpay.store.canmanagepullpayments",
        "btcpay.store.canmodifyinvoices",
        "btcpay.store.canviewstoresettings",
    ),
    "btcpay.store.canviewstoresettings": (
        "btcpay.store.canviewinvoices",
        "btcpay.store.canviewpullpayments",
    ),
    "btcpay.store.canmodifyinvoices": (
        "btcpay.store.canviewinvoices",
        "btcpay.store.cancreateinvoice",
    ),
    "btcpay.store.canmanagepullpayments": ("btcpay.store.cancreatepullpayments",),
    "btcpay.store.cancreatepullpayments": ("btcpay.store.cancreatenonapprovedpullpayments",),
    "btcpay.store.cancreatenonapprovedpullpayments": ("btcpay.store.canviewpullpayments",),
}

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def version_of(server: Json) -> tuple[int, ...] | None:
    """Return the version of a server's description, None if it has none that can be read."""
    found = _VERSION.match(str(server.get("version")))
    return None if found is None else tuple(int(part) for part in found.groups())


def advice_on_version(server: Json) -> list[str]:
    """Return advice if the server is too old for promptly, or hides its version."""
    version = version_of(server)
    oldest = ".".join(map(str, OLDEST))
    if version is None:
        return [f"BTCPay does not tell its version; promptly needs {oldest} or newer"]
    if version < OLDEST:
        return [f"BTCPay {server['version']} is too old: update it to {oldest} or newer"]
    return []


def advice_on_key(key: Json, store_id: str) -> list[str]:
    """Return advice on the permissions that our key lacks for the store."""
    given = key.get("permissions")
    if not isinstance(given, list):
        return ["BTCPay does not tell the permissions of BTCPAY_API_KEY"]
    held = _all_held((str(item) for item in given), store_id)
    missing = [name for name in NEEDED if name not in held]
    if not missing:
        return []
    return [
        f"BTCPAY_API_KEY lacks {', '.join(missing)} for the store BTCPAY_STORE_ID: create a key "
        "with these permissions in BTCPay, Account, API Keys"
    ]


def _all_held(given: Iterable[str], store_id: str) -> set[str]:
    """Return the permissions for a store, with those that they include.

    A permission is for all stores of its user, or after a colon for one.
    """
    held: set[str] = set()
    waiting = [
        name
        for name, _, store in (item.partition(":") for item in given)
        if store in {"", store_id}
    ]
    while waiting:
        name = waiting.pop()
        if name not in held:
            held.add(name)
            waiting += _INCLUDED.get(name, ())
    return held
