"""Errors as clients see them: their shape, and which of them a route can return."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from promptly import errors
from promptly.openapi.schemas import Schema, Schemas


class ErrorDetail(Struct):
    """Details of the error, which SDKs raise as an exception. Programs should check `code`."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Struct):
    """The body of every error."""

    error: ErrorDetail


@dataclass(frozen=True)
class Fault:
    """One way for a request to fail: its status and `code`, and their meaning with advice."""

    status: int
    code: str | None
    meaning: str


@dataclass(frozen=True)
class ErrorShape:
    """An API's error format: the type of the body, and the field of `error` that identifies it.

    `event` is the type of the event that ends a failed stream, `prefix` that of both types' names.
    """

    body: Any
    event: Any
    prefix: str
    field: str
    value: Callable[[Fault], str | None]

    def of(self, faults: tuple[Fault, ...], schemas: Schemas) -> Schema:
        """Return the schema of the body with one of these faults."""
        known = {"enum": list(dict.fromkeys(self.value(fault) for fault in faults))}
        narrowed = {"properties": {"error": {"properties": {self.field: known}}}}
        return {"allOf": [schemas.of(self.body, self.prefix), narrowed]}


OPENAI = ErrorShape(Error, Error, "", "code", lambda fault: fault.code)


def _fault(kind: type[errors.PromptlyError], meaning: str, code: str | None = None) -> Fault:
    return Fault(kind.status, code or kind.code, meaning)


INVALID = _fault(errors.InvalidRequest, "the request is not valid; `param` names the field")
UNSUPPORTED = _fault(
    errors.UnsupportedParameter, "`param` would change the answer, but is not supported here"
)
UNKNOWN_PARAMETER = _fault(
    errors.InvalidRequest, "`param` is not a parameter of this route", "unknown_parameter"
)
CONTEXT = _fault(
    errors.ContextLengthExceeded, "the prompt is longer than the model's context: shorten it"
)
REJECTED = _fault(
    errors.RequestRejected,
    "model servers stopped twice while they processed this request: change it",
)
KEY = _fault(errors.InvalidKey, "no key, a wrong one, or one that was replaced or has expired")
SUSPENDED = _fault(
    errors.AccountSuspended, "the operator suspended the account: ask them; its balance is kept"
)
QUOTA = _fault(
    errors.InsufficientQuota, "the balance does not cover the prompt and one token: top up"
)
KEY_LIMIT = _fault(
    errors.KeyLimitReached, "the key's own limit of tokens is used up: use another key, or raise it"
)
ADDRESS = _fault(errors.AddressNotAllowed, "the key may not be used from this address")
MODEL = _fault(errors.ModelNotAllowed, "the key may not use this model: the message names others")
NO_KEY = _fault(errors.NotFound, "the key has just been revoked")
NO_ACCOUNT = _fault(errors.NotFound, "the account is being deleted")
NO_RECEIPT = _fault(errors.NotFound, "no such receipt, or not yet available; no such key")
NO_MODEL = _fault(errors.NotFound, "no model of this name is loaded", "model_not_found")
NO_URL = _fault(errors.UnknownURL, "the name cannot be a part of a URL")
NO_SERVER = _fault(errors.UnsupportedEndpoint, "no model server here serves this endpoint")
SLOW_BODY = _fault(errors.BodyTimeout, "the body did not arrive in time")
LARGE_BODY = _fault(errors.BodyTooLarge, "the body is too large")
UNKNOWN_CODING = _fault(
    errors.UnsupportedContentEncoding, "send the body as it is, or in gzip, deflate or zstd"
)
RATE = _fault(
    errors.RateLimited,
    "too many requests per minute, or too many or too large ones at once: wait for `retry-after`",
)
RESERVED = _fault(
    errors.TokensReserved,
    "other requests of the account hold part of its balance: wait for them",
)
INTERNAL = _fault(errors.PromptlyError, "an internal error: report `x-request-id`")
UPSTREAM = _fault(errors.UpstreamError, "the model server failed: try again")
NO_UPSTREAM = _fault(errors.UpstreamUnavailable, "no model server is ready or has a free slot")
QUEUE = _fault(errors.QueueFull, "too many requests are waiting")
SERVICE = _fault(
    errors.ServiceUnavailable, "an interruption: the database, a restart, or too many large bodies"
)
TIMEOUT = _fault(errors.UpstreamTimeout, "the model server took too long")

# Errors of every route below /v1; further ones if it takes a body, calls the model server, or is
# charged for.
ALWAYS = (INVALID, KEY, SUSPENDED, ADDRESS, RATE, INTERNAL, SERVICE)
WITH_BODY = (*ALWAYS, UNSUPPORTED, SLOW_BODY, LARGE_BODY, UNKNOWN_CODING)
COUNTED = (*WITH_BODY, REJECTED, CONTEXT, MODEL, QUOTA, RESERVED, UPSTREAM, NO_UPSTREAM)
METERED = (*COUNTED, KEY_LIMIT, QUEUE, TIMEOUT)
