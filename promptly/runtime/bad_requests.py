"""The status of requests that gunicorn cannot parse; their text goes neither to logs nor pages."""

from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)

from promptly.runtime.client_reader import HeadTimeout

_STATUSES: tuple[tuple[type[Exception], int, str], ...] = (
    (HeadTimeout, 408, "Request Timeout"),
    (LimitRequestLine, 414, "URI Too Long"),
    (ExpectationFailed, 417, "Expectation Failed"),
    (LimitRequestHeaders, 431, "Request Header Fields Too Large"),
    # Also an unknown transfer coding, for which only one of gunicorn's parsers has a class.
    (ParseException, 400, "Bad Request"),
)
# Parse errors by their class, but faults of the application or its configuration.
_OURS = (ConfigurationProblem, InvalidResponseHeader, InvalidResponseHeaderName)


def status_of(problem: Exception) -> tuple[int, str] | None:
    """Return the status and reason phrase of a client's error; None if the error is ours."""
    if isinstance(problem, _OURS):
        return None
    for kind, status, reason in _STATUSES:
        if isinstance(problem, kind):
            return status, reason
    return None
