"""Stripe's pagination of lists, and the expansion of ids to objects."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from sandbox.stripe.account import Account
from sandbox.stripe.errors import ApiError, missing
from sandbox.stripe.objects import Object

EXPANDABLE = ("payment_intent", "latest_charge", "charge")

DEFAULT_LIMIT = 10


def page(account: Account, kind: str, path: str, params: dict[str, Any]) -> Object:
    """Return one page of the objects of a kind, newest first."""
    everything = account.every(kind)
    if "starting_after" in params and "ending_before" in params:
        raise ApiError("Only one of starting_after and ending_before may be given.")
    # The cursor is a position among all objects; it need not match the filters (any more).
    if "starting_after" in params:
        everything = everything[_place(everything, kind, params, "starting_after") + 1 :]
    if "ending_before" in params:
        everything = everything[: _place(everything, kind, params, "ending_before")]
    found = [item for item in everything if _matches(item, params)]
    limit = params.get("limit", DEFAULT_LIMIT)
    chosen = found[-limit:] if "ending_before" in params else found[:limit]
    data = [account.shown(item) for item in chosen]
    for item in data:
        for where in params.get("expand", []):
            if not where.startswith("data."):
                raise ApiError(f"This property cannot be expanded ({where}).", param="expand")
            _expand(account, item, where.removeprefix("data."))
    return {"object": "list", "data": data, "has_more": len(found) > len(chosen), "url": path}


def shown(account: Account, item: Object, params: dict[str, Any]) -> Object:
    """Return an object with the requested expansions."""
    found = account.shown(item)
    for where in params.get("expand", []):
        _expand(account, found, where)
    return found


def _expand(account: Account, item: Object, where: str) -> None:
    name, _, rest = where.partition(".")
    if name not in item or name not in EXPANDABLE:
        raise ApiError(f"This property cannot be expanded ({where}).", param="expand")
    if isinstance(item[name], str):
        item[name] = account.shown(account.objects[item[name]])
    if rest and isinstance(item[name], dict):
        _expand(account, item[name], rest)


def _place(found: list[Object], kind: str, params: dict[str, Any], param: str) -> int:
    for number, item in enumerate(found):
        if item["id"] == params[param]:
            return number
    raise missing(kind, params[param], param)


def _matches(item: Object, params: dict[str, Any]) -> bool:
    return all(
        FILTERS[name](item, value) if name in FILTERS else item[name] == value
        for name, value in params.items()
        if name not in ("limit", "starting_after", "ending_before", "expand")
    )


def _is_in_time(item: Object, bounds: dict[str, int]) -> bool:
    created: int = item["created"]
    return (
        created > bounds.get("gt", -1)
        and created >= bounds.get("gte", 0)
        and created < bounds.get("lt", 10**12)
        and created <= bounds.get("lte", 10**12)
    )


def _has_email(item: Object, details: dict[str, str]) -> bool:
    known = item["customer_details"] or {}
    return bool(str(known.get("email", "")).lower() == details["email"].lower())


FILTERS: dict[str, Callable[[Object, Any], bool]] = {
    "created": _is_in_time,
    "customer_details": _has_email,
    "type": lambda item, pattern: fnmatchcase(item["type"], pattern),
    "types": lambda item, types: item["type"] in types,
    "delivery_success": lambda item, wanted: (item["pending_webhooks"] == 0) is wanted,
}
