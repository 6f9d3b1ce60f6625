"""Taking a request's body: read within its limits of size, time and memory, then decoded."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from gunicorn.http.errors import ParseException
from werkzeug.wsgi import get_content_length

from promptly.blueprints.v1.api_request import ApiRequest
from promptly.errors import BodyTimeout, BodyTooLarge, InvalidRequest, ServiceUnavailable
from promptly.gateway.body_budget import BodyShare
from promptly.gateway.content_encoding import coding_of
from promptly.gateway.json_bounds import Body
from promptly.runtime.early_timeout import EarlyTimeout

T = TypeVar("T")

READ_BYTES = 64 * 1024


def take_body(request: ApiRequest, parse: Callable[[Body], T]) -> T:
    """Read and decode the body; return what `parse` makes of it.

    `parse` runs in a native thread if the body is large. Raises BodyTooLarge, BodyTimeout,
    UnsupportedContentEncoding, RateLimited or ServiceUnavailable if too much is in memory, and
    InvalidRequest if the body is incomplete or malformed.
    """
    gateway = request.gateway
    coding = coding_of(request.environ.get("HTTP_CONTENT_ENCODING", ""))
    limit = EarlyTimeout(gateway.settings.body_timeout_seconds)
    share = gateway.body_budget.share(request.caller.user_id, request.network, limit.cut)
    request.body_share = share
    body = _read(request.environ, gateway.settings.max_body_bytes, share, limit)
    parsed, size = gateway.body_decoder.decode(body, coding, parse)
    share.finish_reading(size)
    return parsed


def _read(environ: dict[str, Any], limit: int, share: BodyShare, time_limit: EarlyTimeout) -> Body:
    length = get_content_length(environ)
    if length is not None:
        if length > limit:
            raise too_large(limit)
        share.require(length)
    body = bytearray()
    stream = environ["wsgi.input"]
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
