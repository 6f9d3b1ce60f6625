"""Taking a request's body: read within its limits of size, time and memory, then decoded."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from flask import Request, g
from flask.globals import app_ctx, request_ctx
from gunicorn.http.errors import ParseException

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
    # Each use of Flask's proxies costs as much as ten of what they stand for.
    gateway, current, kept = current_gateway(), request_ctx.request, app_ctx.g
    coding = coding_of(current.environ.get("HTTP_CONTENT_ENCODING", ""))
    limit = EarlyTimeout(gateway.settings.body_timeout_seconds)
    share = gateway.body_budget.share(kept.caller.user_id, kept.network, limit.cut)
    kept.body_share = share
    body = _read(current, gateway.settings, share, limit)
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


def _read(current: Request, settings: Settings, share: BodyShare, time_limit: EarlyTimeout) -> Body:
    limit = settings.max_body_bytes
    length = current.content_length
    if length is not None:
        if length > limit:
            raise too_large(limit)
        share.require(length)
    body = bytearray()
    stream = current.environ["wsgi.input"]
    # Of the worker's own class, except in tests without a server.
    read_onto = getattr(stream, "read_onto", None) or partial(_read_onto, stream)
    try:
        with time_limit:
            while size := read_onto(body):
                if len(body) > limit:
                    raise too_large(limit)
                share.grow(size)
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


def _read_onto(stream: Any, body: bytearray) -> int:
    piece = stream.read(READ_BYTES)
    body += piece
    return len(piece)


def too_large(limit: int) -> BodyTooLarge:
    """Return the error for a body above the limit, in bytes."""
    return BodyTooLarge(f"The body is larger than {limit} bytes.")
