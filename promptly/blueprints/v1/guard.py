"""Checks before every route of /v1: rate limits per address and key, and authentication.

The key is looked up before the body is read, unless the hold does it (ADR 39). Its limit is counted
under its hash in the same Redis call as the address's, so requests with a wrong key count as well.
The keys of accounts with a rate of their own are known by their hashes.
"""

from typing import cast

from flask import Request, Response, g, request
from flask.globals import request_ctx

from promptly import pseudonyms
from promptly.blueprints import error_handlers, error_shapes
from promptly.blueprints.v1 import cross_origin
from promptly.errors import AccountSuspended, InvalidKey, PromptlyError
from promptly.gateway import current_gateway
from promptly.gateway.limits import LimitExceeded
from promptly.proxies import client_address
from promptly.request_ids import new_request_id, public_id
from promptly.services.accounts import key_format
from promptly.services.accounts.account_limits import AccountRate
from promptly.services.accounts.authentication import Caller, authenticate

# Their views place a hold for one request that generates text, and do nothing else before.
HOLDING = {
    f"v1.{view}"
    for view in ("chat_completions", "text_completions", "create_response", "create_message")
}


def admit() -> None:
    """Admit the request; runs first.

    Raises LimitExceeded, InvalidKey, AddressNotAllowed or AccountSuspended.
    """
    g.request_uuid = new_request_id()
    g.request_id = public_id(g.request_uuid)
    gateway = current_gateway()
    key = presented_key()
    if not key_format.is_well_formed(key) and not key_format.is_imported(key):
        count(None)
        raise InvalidKey
    hashes = gateway.key_hashes.of(key)
    count(hashes[0], gateway.account_rates.find(hashes))
    known = gateway.known_callers.find(hashes[0]) if _holds_at_once() else None
    g.caller = known or _look_up(key, hashes)


def _holds_at_once() -> bool:
    """Whether the view places a hold, and has all of a small body without waiting for the client.

    A compressed one may turn out to be large.
    """
    current: Request = request_ctx.request
    if current.endpoint not in HOLDING or "HTTP_CONTENT_ENCODING" in current.environ:
        return False
    # Of the worker's own class, except in tests without a server.
    return bool(getattr(current.environ["wsgi.input"], "has_arrived", False))


def _look_up(key: str, hashes: tuple[bytes, ...]) -> Caller:
    gateway = current_gateway()
    caller = authenticate(gateway.database, *hashes)
    if caller is None and key_format.is_imported(key):
        caller = gateway.imported_keys.authenticate(key, network())
    gateway.known_callers.note(hashes[0], caller)
    if caller is None:
        raise InvalidKey
    if caller.expired:
        raise InvalidKey("This API key has expired.")
    if caller.leash is not None:
        caller.leash.require_address(client_address())
    if caller.suspended:
        raise AccountSuspended.with_contact(gateway.settings.support_email)
    if caller.outdated:
        gateway.key_hashes.renew(caller.key_id, hashes[0])
    return caller


def proven_caller() -> Caller:
    """Return the caller, whose key is looked up now if it has not been; raises like `admit`."""
    if caller().unproven_key_hash is not None:
        key = presented_key()
        g.caller = _look_up(key, current_gateway().key_hashes.of(key))
    return caller()


def refuse(problem: PromptlyError) -> Response:
    """Answer an error; to a key that is not valid any more, nothing else is said."""
    if "caller" in g:
        try:
            proven_caller()
        except PromptlyError as refusal:
            problem = refusal
    return error_handlers.answer(problem)


def answer_preflight() -> Response | None:
    """Answer a browser's preflight, which has no key and counts against its address only."""
    response = cross_origin.preflight(request)
    if response is not None:
        count(None)
    return response


def count_refused() -> None:
    """Count a request that is refused before `admit` against its address; pages have no limit.

    One with an unknown URL or method is counted too; it needs no key.
    """
    if error_shapes.is_api(request.path):
        count(None)


def count(key_hash: bytes | None, rate: AccountRate | None = None) -> None:
    """Count a request against its address and key, or its account; keep the headers' values."""
    g.network = pseudonyms.of_network()
    try:
        allowance = current_gateway().limits.admit(g.network, key_hash, rate)
    except LimitExceeded as problem:
        g.rate_headers = problem.allowance.headers()
        raise
    g.rate_headers = allowance.headers()


def presented_key() -> str:
    """Return the key from `Authorization: Bearer` or `x-api-key`; may be empty."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return request.headers.get("x-api-key", "").strip()


def caller() -> Caller:
    """Return the caller of the current request, unproven where its hold is placed at once."""
    return cast(Caller, g.caller)


def network() -> str:
    """Return the pseudonym of the client's network, once the request is counted."""
    return cast(str, g.network)


def add_headers(response: Response) -> Response:
    """Add the headers of every response of the API, including errors and unknown URLs."""
    # Behind the proxy object, which costs something each time.
    current: Request = request_ctx.request
    if error_shapes.is_api(current.path):
        response.headers["x-request-id"] = error_handlers.request_id()
        if error_shapes.is_anthropic(current):
            # Anthropic's SDKs read this header.
            response.headers["request-id"] = error_handlers.request_id()
        for name, value in g.get("rate_headers", {}).items():
            response.headers[name] = value
        # Only browsers send it.
        origin = current.environ.get("HTTP_ORIGIN")
        if origin is not None:
            cross_origin.add_headers(response, origin)
    return response
