"""A release at work: its commands, its gateway, its Celery worker and beat.

Only commands that every release documents are used, so that it may be of any age.
"""

import time
from typing import Any

import orjson

from sandbox.checkout import Code
from sandbox.process import tail, wait_until
from tests.support.process_stack import Background, ProcessStack
from tests.support.sockets import queued

WORKERS = 2
# Above the longest stream of the load. The second is the name that the first had once.
DRAIN: dict[str, Any] = {"DRAIN_SECONDS": 60, "GRACEFUL_TIMEOUT_SECONDS": 70}


class Release:
    """The processes of one release on a stack's servers."""

    def __init__(self, name: str, code: Code, stack: ProcessStack, **variables: Any) -> None:
        self.name = name
        self._code = code
        self._directory = stack.directory / name
        self._directory.mkdir(parents=True)
        self.gateway = stack.make_gateway(
            workers=WORKERS, port=None, code=code, **{**DRAIN, **variables}
        )
        self._background: Background | None = None

    def flask(self, *arguments: str) -> str:
        """Run a command of the release's CLI and return its output."""
        return self.gateway.flask(*arguments)

    def flask_json(self, *arguments: str) -> Any:
        """Run a command with --json and return what it prints."""
        return orjson.loads(self.flask(*arguments, "--json"))

    def migrate(self) -> float:
        """Bring the database to the release's schema; return the seconds that it took."""
        folder = self._code.folder / "migrations"
        started = time.monotonic()
        self.flask("db", "upgrade", "--directory", str(folder))
        return time.monotonic() - started

    def start_background(self) -> None:
        """Start the Celery worker and beat; they take seconds to become ready."""
        self._background = Background(self._directory, self.gateway.environment, self._code)

    def stop_background(self) -> None:
        """Stop the Celery worker and beat in order."""
        if self._background is not None:
            self._background.stop()
            self._background = None

    def drain(self) -> float:
        """End the gateway, which is out of rotation and has requests; return the seconds."""
        wait_until(lambda: queued(self.gateway.port) == 0, 10, "an empty accept queue")
        started = time.monotonic()
        self.gateway.terminate()
        wait_until(lambda: not self.gateway.is_running, 90, f"the end of {self.name}")
        return time.monotonic() - started

    def log_tails(self) -> str:
        """Return the ends of the release's logs, for a failure's report."""
        logs = [self.gateway.log, *sorted(self._directory.glob("*.log"))]
        return "\n".join(f"--- {self.name} {log.name}\n{tail(log)}" for log in logs)

    def stop(self) -> None:
        """Stop whatever runs."""
        self.stop_background()
        self.gateway.kill()
