"""What stands before every route of /v1: limits by address, the key, limits by key.

The key is looked up before the body is read. Its limit is counted under its hash in the same Redis
call as the address's, so a wrong key costs its sender a place as well.
"""

import time
from typing import cast

from flask import Response, g, request

from promptly.blueprints import error_shapes
from promptly.errors import InvalidKey
from promptly.gateway import current_gateway
from promptly.gateway.limits import LimitExceeded
from promptly.proxies import client_network
from promptly.request_ids import new_request_id, public_id
from promptly.services.accounts import key_format
from promptly.services.accounts.authentication import Caller, authenticate


def admit() -> None:
    """Let the request in or raise LimitExceeded or InvalidKey; runs before every view."""
    g.started_at = time.monotonic()
    g.request_uuid = new_request_id()
    g.request_id = public_id(g.request_uuid)
    gateway = current_gateway()
    key = presented_key()
    key_hash = None
    if key_format.is_well_formed(key):
        key_hash = key_format.digest(key, gateway.pepper)
    count(key_hash)
    if key_hash is None:
        raise InvalidKey
    caller = authenticate(gateway.database, key_hash)
    if caller is None:
        raise InvalidKey
    g.caller = caller


def admit_unknown() -> None:
    """Count a request whose URL or method is none of ours against its address; it needs no key."""
    if request.routing_exception is not None and request.path.startswith("/v1/"):
        count(None)


def count(key_hash: bytes | None) -> None:
    """Count a request against its address and key, and keep what its headers will say."""
    try:
        allowance = current_gateway().limits.admit(client_network(), key_hash)
    except LimitExceeded as problem:
        g.rate_headers = problem.allowance.headers()
        raise
    g.rate_headers = allowance.headers()


def presented_key() -> str:
    """The key of the request, from `Authorization: Bearer` or `x-api-key`; maybe empty."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return request.headers.get("x-api-key", "").strip()


def caller() -> Caller:
    """Who sent the request that is being served."""
    return cast(Caller, g.caller)


def add_headers(response: Response) -> Response:
    """The standing headers of every answer below /v1, errors and unknown URLs included."""
    if request.path.startswith("/v1"):
        if "request_id" not in g:
            g.request_id = public_id(new_request_id())
        response.headers["x-request-id"] = g.request_id
        if error_shapes.is_anthropic(request.path):
            # Where Anthropic's SDKs look for it.
            response.headers["request-id"] = g.request_id
        for name, value in g.get("rate_headers", {}).items():
            response.headers[name] = value
    return response
