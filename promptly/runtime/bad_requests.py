"""Requests that gunicorn cannot parse; their text goes neither to logs nor pages."""

from collections.abc import Iterable

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


def answer(status: int, reason: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a whole response, after which the connection is closed."""
    body = f"{reason}\n"
    further = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\n{further}\r\n"
    )
    return f"{head}{body}".encode("latin-1")


def status_of(problem: Exception) -> tuple[int, str] | None:
    """Return the status and reason phrase of a client's error; None if the error is ours."""
    if isinstance(problem, _OURS):
        return None
    for kind, status, reason in _STATUSES:
        if isinstance(problem, kind):
            return status, reason
    return None
