"""Records of the requests to a stand-in, for tests to inspect."""

import threading
import time
from collections import deque
from typing import Any

from sandbox.provider.http import Answer, Request

KEPT_RECORDS = 5000


class Records:
    """The latest requests, oldest first."""

    def __init__(self) -> None:
        self._records: deque[dict[str, Any]] = deque(maxlen=KEPT_RECORDS)
        self._lock = threading.Lock()

    def begin(self, request: Request) -> dict[str, Any]:
        """Record a request; the caller adds its outcome. Status 0 means no answer."""
        record: dict[str, Any] = {
            "at": time.time(),
            "method": request.method,
            "path": request.path,
            "query": [list(pair) for pair in request.query],
            "headers": {name: _masked(name, value) for name, value in request.headers.items()},
            "body": request.body.decode(errors="replace"),
            "status": 0,
            "answer": "",
            "seconds": None,
        }
        with self._lock:
            self._records.append(record)
        return record

    def end(self, record: dict[str, Any], answer: Answer | None) -> None:
        """Record the answer, or None if there was none."""
        if answer is not None:
            record["status"] = answer.status
            record["answer"] = answer.body.decode(errors="replace")
        record["seconds"] = round(time.time() - record["at"], 4)

    def list(self) -> "list[dict[str, Any]]":
        """Return copies of all records."""
        with self._lock:
            return [dict(record) for record in self._records]

    def clear(self) -> None:
        with self._lock:
            self._records.clear()


def _masked(name: str, value: str) -> str:
    """Mask a key, keeping only enough to distinguish it from others."""
    return f"{value[:14]}…{value[-4:]}" if name == "authorization" else value
