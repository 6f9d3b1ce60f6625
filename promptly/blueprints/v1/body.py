"""Reading a request's body within its limits of size and time."""

from flask import request
from gevent import Timeout
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from promptly.errors import BodyTimeout, BodyTooLarge, InvalidRequest
from promptly.settings import Settings


def read_body(settings: Settings) -> bytes:
    """Return the whole body.

    Raises BodyTooLarge, BodyTimeout, or InvalidRequest if the body is incomplete or malformed.
    """
    limit = settings.max_body_bytes
    length = request.content_length
    if length is not None and length > limit:
        raise too_large(limit)
    # One byte more: a body without a length is silently cut at this limit.
    request.max_content_length = limit + 1
    try:
        with Timeout(settings.body_timeout_seconds):
            body = request.get_data(cache=False)
    except Timeout:
        raise BodyTimeout from None
    except RequestEntityTooLarge:
        raise too_large(limit) from None
    except (ClientDisconnected, OSError):
        raise InvalidRequest("The connection closed before the whole body was received.") from None
    except ParseException:
        raise InvalidRequest("The body does not match its Transfer-Encoding.") from None
    if len(body) > limit:
        raise too_large(limit)
    if length is not None and len(body) < length:
        raise InvalidRequest("The body is shorter than its Content-Length.")
    return body


def too_large(limit: int) -> BodyTooLarge:
    """Return the error for a body above the limit, in bytes."""
    return BodyTooLarge(f"The body is larger than {limit} bytes.")
