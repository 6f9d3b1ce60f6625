"""Checks before every route of /v1: rate limits per address and key, and authentication.

The key is looked up before the body is read, unless the hold does it (ADR 39). Its limit is counted
under its hash in the same Redis call as the address's, so requests with a wrong key count as well.
The keys of accounts with a rate of their own are known by their hashes.
"""

from typing import Any

from promptly.blueprints.v1.api_request import ApiRequest
from promptly.errors import AccountSuspended, InvalidKey
from promptly.gateway.limits import LimitExceeded
from promptly.services.accounts import key_format
from promptly.services.accounts.account_limits import AccountRate
from promptly.services.accounts.authentication import Caller, authenticate


def admit(request: ApiRequest, *, holds: bool = False) -> None:
    """Admit the request, and set its caller: an unproven one where its view `holds` at once.

    Raises LimitExceeded, InvalidKey, AddressNotAllowed or AccountSuspended.
    """
    gateway = request.gateway
    key = presented_key(request.environ)
    if not key_format.is_well_formed(key) and not key_format.is_imported(key):
        count(request)
        raise InvalidKey
    hashes = gateway.key_hashes.of(key)
    count(request, hashes[0], gateway.account_rates.find(hashes))
    known = None
    if holds and _has_small_body(request.environ):
        known = gateway.known_callers.find(hashes[0])
    request.caller = known or _look_up(request, key, hashes)


def prove(request: ApiRequest) -> None:
    """Look up an unproven caller's key; raises like `admit`."""
    if request.is_unproven:
        key = presented_key(request.environ)
        request.caller = _look_up(request, key, request.gateway.key_hashes.of(key))


def unless_refused(request: ApiRequest, problem: Exception) -> Exception:
    """Return the error to answer: a key that is not valid any more is told of nothing else."""
    try:
        prove(request)
    except Exception as refusal:
        return refusal
    return problem


def _has_small_body(environ: dict[str, Any]) -> bool:
    """Return whether a small body is all there, so that reading it does not wait for the client.

    A compressed one may turn out to be large.
    """
    if "HTTP_CONTENT_ENCODING" in environ:
        return False
    # Of the worker's own class, except in tests without a server.
    return bool(getattr(environ["wsgi.input"], "has_arrived", False))


def _look_up(request: ApiRequest, key: str, hashes: tuple[bytes, ...]) -> Caller:
    gateway = request.gateway
    caller = authenticate(gateway.database, *hashes)
    if caller is None and key_format.is_imported(key):
        caller = gateway.imported_keys.authenticate(key, request.network)
    gateway.known_callers.note(hashes[0], caller)
    if caller is None:
        raise InvalidKey
    if caller.expired:
        raise InvalidKey("This API key has expired.")
    if caller.leash is not None:
        caller.leash.require_address(request.address)
    if caller.suspended:
        raise AccountSuspended.with_contact(gateway.settings.support_email)
    if caller.outdated:
        gateway.key_hashes.renew(caller.key_id, hashes[0])
    return caller


def count(
    request: ApiRequest, key_hash: bytes | None = None, rate: AccountRate | None = None
) -> None:
    """Count a request against its address and key, or its account; keep the headers' values."""
    try:
        allowance = request.gateway.limits.admit(request.network, key_hash, rate)
    except LimitExceeded as problem:
        request.rate_headers = problem.allowance.headers()
        raise
    request.rate_headers = allowance.headers()


def presented_key(environ: dict[str, Any]) -> str:
    """Return the key from `Authorization: Bearer` or `x-api-key`; may be empty."""
    scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        return str(value).strip()
    return str(environ.get("HTTP_X_API_KEY", "")).strip()
