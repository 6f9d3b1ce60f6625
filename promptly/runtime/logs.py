"""Structured logs: one JSON object per line, with keys redacted.

Values passed as `extra=` become fields of their own. The finished line is searched for anything
that looks like a key, so that no library's message can leak one.
"""

import io
import logging
import re
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn

import orjson
from gevent.hub import Hub

logger = logging.getLogger(__name__)

# Of imported keys too, which contain `-` and `_`; so other words after `sk-` may be cut as well.
KEY_PATTERN = re.compile(r"sk-[0-9A-Za-z_-]{9}[0-9A-Za-z_%-]+")
QUERY_PATTERN = re.compile(r"([?&](?:key|token)=)[^&\s\"']+")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def redact(line: str) -> str:
    """Shorten API keys to their public prefix and mask `key` and `token` in query strings."""
    if "sk-" in line:
        line = KEY_PATTERN.sub(lambda match: match.group()[:12] + "…", line)
    if "=" in line:
        line = QUERY_PATTERN.sub(r"\1…", line)
    return line


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                fields[name] = value
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        line = orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        return redact(line)


class JsonHandler(logging.StreamHandler[Any]):
    """Writes to standard error, which `Printed` may stand in for."""

    def __init__(self) -> None:
        super().__init__(getattr(sys.stderr, "replaced", sys.stderr))

    def handleError(self, record: logging.LogRecord) -> None:
        """Log the kind of the error only: logging would print the record's arguments unredacted."""
        fields = {"level": "error", "logger": record.name, "message": "a line cannot be logged"}
        kind = sys.exc_info()[0]
        line = orjson.dumps({**fields, "reason": kind.__name__ if kind else None}).decode()
        with suppress(OSError, ValueError):
            self.stream.write(line + self.terminator)


class Printed(io.TextIOBase):
    """Stands in for standard output or error: what is printed there becomes a line of the log."""

    def __init__(self, replaced: Any) -> None:
        self.replaced = replaced

    def write(self, text: str) -> int:
        if text.strip():
            logger.warning("printed", extra={"text": text.strip()})
        return len(text)


def configure(level: str) -> None:
    """Send all logging through one JSON handler on standard error."""
    handler = JsonHandler()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old, JsonHandler):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # These libraries log URLs, hosts or their own parts at levels of no use here.
    for noisy in ("urllib3", "stripe", "mail.log", "alembic.runtime.plugins"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def capture_uncaught() -> None:
    """Log what else would be printed: warnings, uncaught exceptions, texts of libraries.

    For servers; on a terminal, Python's own output reads better.
    """

    logging.captureWarnings(True)
    for name in ("stdout", "stderr"):
        if not isinstance(getattr(sys, name), Printed):
            setattr(sys, name, Printed(getattr(sys, name)))
    sys.excepthook = _uncaught
    threading.excepthook = lambda found: _uncaught(
        found.exc_type, found.exc_value, found.exc_traceback
    )

    def of_greenlet(_hub: Hub, _context: object, *found: Any) -> None:
        _uncaught(*found)

    # gevent writes to standard error itself, and has no other hook.
    setattr(Hub, "print_exception", of_greenlet)  # noqa: B010


def fail(message: str, **fields: object) -> NoReturn:
    """Log why this process cannot go on, even if logging is not configured yet, and end it."""
    configure("info")
    logger.error(message, extra=fields)
    sys.exit(1)


def _uncaught(kind: type[BaseException], problem: Any, traceback: Any) -> None:
    logger.error("uncaught exception", exc_info=(kind, problem, traceback))
