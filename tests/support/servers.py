"""The PostgreSQL and Redis of a test run: those the environment names, else embedded ones; and
promptly itself under gunicorn, for tests that need it whole.

Redis is emptied by the tests, so REDIS_URL must name one that holds nothing dear; with several
xdist workers each takes a database of its own, counted up from the one in the URL.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import flask_migrate
import psutil
import urllib3

from promptly.app import create_app
from promptly.settings import Settings, database_url
from sandbox import process
from sandbox.ports import free_port
from sandbox.postgres import EmbeddedPostgres
from sandbox.process import SandboxError
from sandbox.redis_server import EmbeddedRedis
from tests.support.databases import Databases

PROJECT = Path(__file__).parents[2]

# What every application of a test is given; whatever it needs besides is added by name.
VARIABLES = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "LLAMA_BASE_URL": "http://127.0.0.1:1",
    "GATEWAY_SECRET_KEY": "test-session-secret-0123456789-abcdef",
    "KEY_PEPPER": "test-key-pepper-0123456789-abcdefghij",
    "SMTP_TLS": "none",
}


def make_settings(**values: object) -> Settings:
    """Complete settings; `values` are fields by name, each already of its type."""
    complete = Settings.from_mapping(VARIABLES)
    if "database_url" in values:
        values["database_url"] = database_url(str(values["database_url"]))
    return replace(complete, **values)  # type: ignore[arg-type]


class Servers:
    """The servers of the whole run, started once, with one migrated template database."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="promptly-tests-"))
        self._postgres: EmbeddedPostgres | None = None
        external = os.environ.get("DATABASE_URL")
        if external:
            self.databases = Databases(external)
        else:
            self._postgres = EmbeddedPostgres(self._directory / "postgres", durable=False)
            self._postgres.start()
            self.databases = Databases(self._postgres.url("postgres"))
        self.template = self.databases.create(prefix="promptly_template")
        migrate(self.databases.url(self.template))

    def stop(self) -> None:
        self.databases.drop(self.template)
        if self._postgres is not None:
            self._postgres.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


def migrate(url: str) -> None:
    """Bring a database to the newest schema."""
    app = create_app(make_settings(database_url=url, log_level="warning"))
    with app.app_context():
        flask_migrate.upgrade(directory=str(PROJECT / "migrations"))
        for engine in app.extensions["sqlalchemy"].engines.values():
            engine.dispose()


class WorkerRedis:
    """The Redis of one xdist worker: an embedded one, or a database of the given one."""

    def __init__(self, worker: int, directory: Path) -> None:
        self._embedded: EmbeddedRedis | None = None
        external = os.environ.get("REDIS_URL")
        if external:
            self.url = _numbered(external, worker)
        else:
            self._embedded = EmbeddedRedis(directory)
            self._embedded.start()
            self.url = self._embedded.url

    def stop(self) -> None:
        if self._embedded is not None:
            self._embedded.stop()


def _numbered(url: str, worker: int) -> str:
    if url.startswith("unix://"):
        return url
    parts = urlsplit(url)
    first = int(parts.path.strip("/") or 0)
    return urlunsplit(parts._replace(path=f"/{(first + worker) % 16}"))


class Gateway:
    """promptly under gunicorn on a free port of 127.0.0.1, with a database and a Redis it is given.

    `variables` are environment variables by name; limits are out of the way unless they name
    them. SIGTERM lets running streams go on for GRACEFUL_TIMEOUT_SECONDS less ten, at least one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        database_url: str,
        redis_url: str,
        llama_urls: list[str],
        workers: int = 1,
        **variables: object,
    ) -> None:
        self.port = free_port()
        self.log = directory / "gateway.log"
        self.workers = workers
        self._directory = directory
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            # Not the working directory: a developer's .env and .promptly stay out of it.
            "PYTHONPATH": str(PROJECT),
            **VARIABLES,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "LLAMA_BASE_URL": ",".join(llama_urls),
            "GATEWAY_PORT": str(self.port),
            "WEB_CONCURRENCY": str(workers),
            "INFERENCE_IP_RATE_LIMIT": "100000",
            "INFERENCE_USER_RATE_LIMIT": "100000",
            "MAX_CONCURRENT_REQUESTS": "1000",
            "GRACEFUL_TIMEOUT_SECONDS": "12",
            **{name: str(value) for name, value in variables.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL, without a closing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether gunicorn's master lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of gunicorn's master."""
        if self._process is None:
            raise SandboxError("the gateway was never started")
        return self._process.pid

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that live now."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []

    def start(self) -> "Gateway":
        """Start gunicorn; returns once it answers with all its workers.

        Raises SandboxError with the log's end if it does not come up.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "gunicorn", "-c", str(PROJECT / "gunicorn.conf.py")]
        self._process = process.spawn(
            [*command, "wsgi:app"], log=self.log, env=self._environment, cwd=self._directory
        )
        try:
            process.wait_until(self.is_ready, 30, "gunicorn")
        except SandboxError as error:
            self.kill()
            raise SandboxError(f"{error}\n{process.tail(self.log)}") from error
        return self

    def is_ready(self) -> bool:
        """Whether /health answers and no worker is missing."""
        if not self.is_running:
            raise SandboxError("gunicorn ended")
        try:
            answer = urllib3.request(
                "GET",
                f"{self.url}/health",
                # An idle connection would hold up a graceful end.
                headers={"Connection": "close"},
                retries=False,
                timeout=2.0,
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200 and len(self.worker_pids()) == self.workers

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        os.kill(self.pid, signal.SIGTERM)

    def stop(self, timeout_seconds: float = 20.0) -> None:
        """End it by SIGTERM and wait."""
        if self._process is not None:
            process.stop(self._process, (signal.SIGTERM, timeout_seconds))
            self._process = None

    def kill(self) -> None:
        """End the master and all workers by SIGKILL."""
        workers = [] if self._process is None else self.worker_pids()
        if self._process is not None:
            process.stop(self._process)
            self._process = None
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def log_text(self) -> str:
        """All that was logged so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
