"""Taking a request's body: read within its limits of size, time and memory, then decoded."""

import time
from collections.abc import Callable
from typing import TypeVar

from flask import g, request
from gunicorn.http.errors import ParseException

from promptly.blueprints.v1 import guard
from promptly.errors import BodyTimeout, BodyTooLarge, InvalidRequest, ServiceUnavailable
from promptly.gateway import current_gateway
from promptly.gateway.body_budget import BodyShare
from promptly.gateway.content_encoding import coding_of
from promptly.gateway.json_bounds import Body
from promptly.runtime.early_timeout import EarlyTimeout
from promptly.settings import Settings

T = TypeVar("T")

READ_BYTES = 64 * 1024


def take_body(parse: Callable[[Body], T]) -> T:
    """Read and decode the body; return what `parse` makes of it.

    `parse` runs in a native thread if the body is large. Raises BodyTooLarge, BodyTimeout,
    UnsupportedContentEncoding, RateLimited or ServiceUnavailable if too much is in memory, and
    InvalidRequest if the body is incomplete or malformed.
    """
    gateway = current_gateway()
    coding = coding_of(request.headers.get("Content-Encoding", ""))
    limit = EarlyTimeout(gateway.settings.body_timeout_seconds)
    share = gateway.body_budget.share(guard.caller().user_id, guard.network(), limit.cut)
    g.body_share = share
    body = _read(gateway.settings, share, limit)
    parsed, size = gateway.body_decoder.decode(body, coding, parse)
    share.finish_reading(size)
    return parsed


def hand_over() -> BodyShare:
    """Return the body's share of memory to a request that outlives its view, and gives it back."""
    share: BodyShare = g.pop("body_share")
    return share


def give_back(_problem: BaseException | None = None) -> None:
    """Give the body's share of memory back; runs after every view."""
    share: BodyShare | None = g.pop("body_share", None)
    if share is not None:
        share.give_back()


def _read(settings: Settings, share: BodyShare, time_limit: EarlyTimeout) -> Body:
    limit = settings.max_body_bytes
    length = request.content_length
    if length is not None:
        if length > limit:
            raise too_large(limit)
        share.require(length)
    body = bytearray()
    stream = request.environ["wsgi.input"]
    try:
        with time_limit:
            while piece := stream.read(READ_BYTES):
                if len(body) + len(piece) > limit:
                    raise too_large(limit)
                share.grow(len(piece))
                body += piece
                if len(piece) == READ_BYTES:
                    # Data that arrives faster than it is read never lets other greenlets go on.
                    time.sleep(0)
    except EarlyTimeout:
        if share.is_displaced:
            raise ServiceUnavailable from None
        raise BodyTimeout from None
    except ParseException:
        raise InvalidRequest("The body does not match its Transfer-Encoding.") from None
    except (OSError, ValueError):
        raise InvalidRequest("The connection closed before the whole body was received.") from None
    if length is not None and len(body) < length:
        raise InvalidRequest("The body is shorter than its Content-Length.")
    share.arrived()
    return body


def too_large(limit: int) -> BodyTooLarge:
    """Return the error for a body above the limit, in bytes."""
    return BodyTooLarge(f"The body is larger than {limit} bytes.")
