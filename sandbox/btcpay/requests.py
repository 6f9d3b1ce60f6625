"""Request validation, stricter than the server's: fields that it would ignore are refused."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from sandbox.btcpay.accounting import RATES
from sandbox.btcpay.errors import ApiError, Invalid
from sandbox.btcpay.store import METHODS

Check = Callable[[Any], bool]

DECIMAL = re.compile(r"\d+(\.\d+)?")

SHORTEST_MINUTES = 0.5
LONGEST_NAME = 50  # of a pull payment


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_decimal(value: Any) -> bool:
    return isinstance(value, str) and DECIMAL.fullmatch(value) is not None


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(minimum: float, maximum: float = 10**7) -> Check:
    return lambda value: (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and minimum <= value <= maximum
    )


def _is_one_of(*words: str) -> Check:
    return lambda value: value in words


def _is_list_of(*words: str) -> Check:
    return lambda value: isinstance(value, list) and set(value) <= set(words) and bool(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


INVOICE: Mapping[str, Check] = {
    "amount": _is_decimal,
    "currency": _is_one_of(*RATES),
    "metadata": _is_object,
    "checkout": _is_object,
    "receipt": _is_object,
    "additionalSearchTerms": lambda value: isinstance(value, list),
}

CHECKOUT: Mapping[str, Check] = {
    "speedPolicy": _is_one_of("HighSpeed", "MediumSpeed", "LowMediumSpeed", "LowSpeed"),
    "paymentMethods": _is_list_of(*METHODS),
    "defaultPaymentMethod": _is_one_of(*METHODS),
    "lazyPaymentMethods": _is_boolean,
    "expirationMinutes": _is_number(SHORTEST_MINUTES),
    "monitoringMinutes": _is_number(0),
    "paymentTolerance": _is_number(0, 100),
    "redirectURL": _is_text,
    "redirectAutomatically": _is_boolean,
    "defaultLanguage": _is_text,
}

MARK: Mapping[str, Check] = {"status": _is_one_of("Settled", "Invalid")}

REFUND: Mapping[str, Check] = {
    "name": lambda value: _is_text(value) and len(value) <= LONGEST_NAME,
    "description": _is_text,
    "payoutMethods": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "refundVariant": _is_one_of("RateThen", "CurrentRate", "OverpaidAmount", "Fiat", "Custom"),
    "subtractPercentage": _is_decimal,
    "customAmount": _is_decimal,
    "customCurrency": _is_text,
}

# Servers before 2.4.1 have one payout method in place of the list.
OLDER_REFUND = {"payoutMethodId": _is_text} | {
    name: check for name, check in REFUND.items() if name != "payoutMethods"
}
LISTS_METHODS = (2, 4, 1)

STATUSES = ("New", "Processing", "Expired", "Invalid", "Settled")

LIST = ("startDate", "endDate", "orderId", "status", "skip", "take", "includeArchived")


def body(data: bytes, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return a JSON body with every known field, None where it is missing.

    Raises ApiError (400) if it is not a JSON object, Invalid for wrong or unknown fields.
    """
    try:
        value = orjson.loads(data)
    except ValueError:
        raise ApiError(400, "invalid-json", "The body is not JSON") from None
    if not isinstance(value, dict):
        raise ApiError(400, "invalid-json", "The body is not a JSON object")
    return _checked(value, checks, "")


def invoice(data: bytes) -> dict[str, Any]:
    """Return a request for an invoice, including its checkout options and metadata."""
    found = body(data, INVOICE)
    found["checkout"] = _checked(found["checkout"] or {}, CHECKOUT, "checkout.")
    found["metadata"] = found["metadata"] or {}
    return found


def refund(data: bytes, version: str) -> dict[str, Any]:
    """Return a request for a refund, with `payoutMethods` also where the server knows only one."""
    if tuple(int(part) for part in version.split(".")) >= LISTS_METHODS:
        return body(data, REFUND)
    found = body(data, OLDER_REFUND)
    method = found.pop("payoutMethodId")
    return found | {"payoutMethods": None if method is None else [method]}


def flags(query: list[tuple[str, str]], *names: str) -> set[str]:
    """Return the flags of a query that are set. Raises Invalid for wrong or unknown ones."""
    problems = [
        (name, "Unknown parameter" if name not in names else f"'{value}' is not valid")
        for name, value in query
        if name not in names or value not in ("true", "false")
    ]
    if problems:
        raise Invalid(problems)
    return {name for name, value in query if value == "true"}


def filters(query: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the filters of a list of invoices. Raises Invalid for wrong or unknown parameters."""
    problems = [(name, "Unknown parameter") for name, _ in query if name not in LIST]
    found: dict[str, Any] = {"orderId": [], "status": [], "skip": 0, "take": None}
    found |= {"startDate": 0, "endDate": 10**11}
    for name, value in query:
        if name == "orderId" or (name == "status" and value in STATUSES):
            found[name].append(value)
        elif name in ("startDate", "endDate", "skip", "take") and value.isdecimal():
            found[name] = int(value)
        elif name != "includeArchived":
            problems.append((name, f"'{value}' is not valid"))
    if found["startDate"] > found["endDate"]:
        problems.append(("startDate", "startDate should not be above endDate"))
    if problems:
        raise Invalid(problems)
    return found


def _checked(value: dict[str, Any], checks: Mapping[str, Check], prefix: str) -> dict[str, Any]:
    problems = []
    for name, item in value.items():
        if name not in checks:
            problems.append((prefix + name, "There is no such field"))
        elif item is not None and not checks[name](item):
            problems.append((prefix + name, f"{item!r} is not valid"))
    if problems:
        raise Invalid(problems)
    return {name: value.get(name) for name in checks}
