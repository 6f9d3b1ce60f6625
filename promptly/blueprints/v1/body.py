"""Reading a request's body within its bounds, of size and of time."""

from flask import request
from gevent import Timeout
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from promptly.errors import BodyTimeout, BodyTooLarge, InvalidRequest
from promptly.settings import Settings


def read_body(settings: Settings) -> bytes:
    """The whole body; raises BodyTooLarge, BodyTimeout, InvalidRequest if it breaks off."""
    limit = settings.max_body_bytes
    length = request.content_length
    if length is not None and length > limit:
        raise too_large(limit)
    # One byte more: a body without a length is cut there in silence.
    request.max_content_length = limit + 1
    try:
        with Timeout(settings.body_timeout_seconds):
            body = request.get_data(cache=False)
    except Timeout:
        raise BodyTimeout from None
    except RequestEntityTooLarge:
        raise too_large(limit) from None
    except (ClientDisconnected, OSError):
        raise InvalidRequest("The body broke off.") from None
    except ParseException:
        raise InvalidRequest("The body is not framed as its Transfer-Encoding says.") from None
    if len(body) > limit:
        raise too_large(limit)
    if length is not None and len(body) < length:
        raise InvalidRequest("The body is shorter than its Content-Length.")
    return body


def too_large(limit: int) -> BodyTooLarge:
    """The body is larger than is taken here."""
    return BodyTooLarge(f"The body is larger than {limit} bytes.")
