"""Response headers, by their names in `components/headers`."""

from collections.abc import Iterable
from typing import Any

Header = dict[str, Any]

_COUNT = {"type": "integer", "minimum": 0}
_REQUEST_ID = {"type": "string", "pattern": "^req_[0-9a-f]{32}$"}

HEADERS: dict[str, Header] = {
    "x-request-id": {
        "description": "The request's id; quote it when you contact the operator.",
        "required": True,
        "schema": _REQUEST_ID,
    },
    "x-ratelimit-limit-requests": {
        "description": (
            "Requests per minute of the key's limit (without a key: the address's), or of the "
            "limit that is reached."
        ),
        "required": True,
        "schema": _COUNT,
    },
    "x-ratelimit-remaining-requests": {
        "description": "Requests left under this limit.",
        "required": True,
        "schema": _COUNT,
    },
    "x-ratelimit-reset-requests": {
        "description": "Time until a further request is allowed, as `12ms`, `1s` or `6m0s`.",
        "required": True,
        "schema": {"type": "string", "pattern": "^([0-9]+ms|([0-9]+m)?[0-9]+s)$"},
    },
    "retry-after": {
        "description": "Seconds to wait before trying again.",
        "required": True,
        "schema": _COUNT,
    },
    "x-should-retry": {
        "description": "`false`: retrying does not help. SDKs honor it.",
        "required": True,
        "schema": {"type": "string", "enum": ["false"]},
    },
    "accept-encoding": {
        "description": "The content codings that bodies may have.",
        "required": True,
        "schema": {"type": "string"},
    },
    "x-promptly-request-id": {
        "description": "The id of the receipt, for `GET /v1/usage?request_id=`.",
        "required": True,
        "schema": _REQUEST_ID,
    },
    "x-promptly-charged-tokens": {
        "description": "Tokens charged; absent from streams, or if the charge is not recorded yet.",
        "schema": _COUNT,
    },
    "x-promptly-balance-tokens": {
        "description": "Tokens that the account can still spend; sent with the charge.",
        "schema": _COUNT,
    },
    "x-promptly-ignored": {
        "description": "Fields of the body that have no effect here, up to 20.",
        "schema": {"type": "string"},
    },
}

STANDING = (
    "x-request-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
OF_METERED = (
    "x-promptly-request-id",
    "x-promptly-charged-tokens",
    "x-promptly-balance-tokens",
    "x-promptly-ignored",
)
OF_STATUS = {
    401: ("x-should-retry",),
    402: ("x-should-retry",),
    403: ("x-should-retry",),
    408: ("x-should-retry",),
    415: ("accept-encoding",),
    429: ("retry-after",),
    503: ("retry-after",),
    504: ("x-should-retry",),
}


def references(names: Iterable[str]) -> dict[str, Header]:
    """Return references to these headers, for a response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
