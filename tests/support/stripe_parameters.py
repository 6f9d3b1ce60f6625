"""Parameters of Stripe's calls, held against the types that its SDK publishes for them."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace, UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)
from urllib.parse import parse_qsl

import stripe
from stripe import params
from typing_extensions import is_typeddict

from sandbox.stripe.parameters import decode

# The SDK's types include its own options of a call, which are no parameters.
OPTIONS = frozenset(stripe.RequestOptions.__annotations__)

CALLS = {
    "POST /v1/checkout/sessions": params.checkout.SessionCreateParams,
    "GET /v1/checkout/sessions": params.checkout.SessionListParams,
    "POST /v1/refunds": params.RefundCreateParams,
    "GET /v1/refunds": params.RefundListParams,
    "GET /v1/disputes": params.DisputeListParams,
    "GET /v1/charges": params.ChargeListParams,
    "GET /v1/payment_intents": params.PaymentIntentListParams,
    "GET /v1/events": params.EventListParams,
    "GET /v1/radar/early_fraud_warnings": params.radar.EarlyFraudWarningListParams,
}


def faults_of(call: dict[str, Any]) -> list[str]:
    """Return what is wrong with the parameters of a recorded call; one object has none."""
    described = CALLS.get(f"{call['method']} {call['path']}")
    pairs = call["query"] if call["method"] == "GET" else parse_qsl(call["body"])
    given = decode((name, value) for name, value in pairs)
    if described is None:
        return [f"{name}: unknown" for name in given]
    return list(_faults(described, given, ""))


def members(described: Any) -> dict[str, Any]:
    """Return the types of an object's parameters by name."""
    own = {name: kind for name, kind in described.__annotations__.items() if name not in OPTIONS}
    # Its own annotations only: those of the options cannot all be resolved.
    holder = SimpleNamespace(__annotations__=own)
    return get_type_hints(holder, vars(sys.modules[described.__module__]), include_extras=True)


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types that a parameter may have; a list of words is not open to other ones."""
    if get_origin(kind) is NotRequired:
        return alternatives(get_args(kind)[0])
    if get_origin(kind) not in (Union, UnionType):
        return (kind,)
    found = [item for part in get_args(kind) for item in alternatives(part)]
    words = any(get_origin(item) is Literal and get_args(item) != ("",) for item in found)
    return tuple(item for item in found if not (words and item is str))


def _faults(described: Any, given: Any, path: str) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"{path}: must be an object"
        return
    known = members(described)
    for name in sorted(described.__required_keys__ & known.keys() - given.keys()):
        yield f"{path}{name}: missing"
    for name, value in given.items():
        if name not in known:
            yield f"{path}{name}: unknown"
            continue
        where = f"{path}{name}"
        attempts = [list(_value(kind, value, where)) for kind in alternatives(known[name])]
        yield from min(attempts, key=len)


def _value(kind: Any, value: Any, path: str) -> Iterator[str]:
    origin = get_origin(kind)
    if is_typeddict(kind):
        yield from _faults(kind, value, f"{path}.")
    elif origin is list:
        if not isinstance(value, dict):
            yield f"{path}: must be a list"
            return
        for key, item in value.items():
            attempts = [
                list(_value(part, item, f"{path}[{key}]"))
                for part in alternatives(get_args(kind)[0])
            ]
            yield from min(attempts, key=len)
    elif origin is dict:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            yield f"{path}: must hold texts by name"
    elif not _is_plain(kind, value):
        yield f"{path}: {value!r} is no {kind}"


def _is_plain(kind: Any, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is bool:
        return value in {"true", "false"}
    if kind is int:
        return value.lstrip("-").isdecimal()
    return kind is str
