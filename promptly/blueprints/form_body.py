"""Reading the body of a form or webhook before anything else.

A client that sends its body slowly, or never, thus holds a socket and nothing else: no query has
run yet, so no connection of PostgreSQL waits for it.
"""

from flask import current_app, request
from gevent import Timeout
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from promptly.errors import BodyTimeout, BodyTooLarge, InvalidRequest
from promptly.settings import current_settings

# More than any form here needs.
FORM_BYTES = 16 * 1024
WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


def read() -> None:
    """Read the body and keep it for the view.

    Raises BodyTooLarge, BodyTimeout, or InvalidRequest if the body is incomplete or malformed.
    """
    if request.method in WITHOUT_BODY:
        return
    limit = FORM_BYTES
    if request.blueprint == "webhooks":
        limit = current_app.config["MAX_CONTENT_LENGTH"]
    if (request.content_length or 0) > limit:
        raise too_large()
    # One byte more: a body without a length is silently cut at this limit.
    request.max_content_length = limit + 1
    try:
        with Timeout(current_settings().form_timeout_seconds):
            body = request.get_data()
    except Timeout:
        raise BodyTimeout from None
    except RequestEntityTooLarge:
        raise too_large() from None
    except (ClientDisconnected, OSError):
        raise InvalidRequest("The connection closed before the whole form was received.") from None
    except ParseException:
        raise InvalidRequest("The form does not match its Transfer-Encoding.") from None
    if len(body) > limit:
        raise too_large()


def too_large() -> BodyTooLarge:
    """Return the error for a body above the limit."""
    return BodyTooLarge("The submitted form is too large.")
