"""Servers of a test run: PostgreSQL and Redis, from the environment or embedded, and gunicorn.

Tests empty Redis, so REDIS_URL must not name one with data of value. With several xdist workers,
each uses its own database number (of 16), counted up from the one in the URL.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import flask_migrate
import psutil
import urllib3

from promptly.app import create_app
from promptly.setting_parsers import database_url
from promptly.settings import Settings
from sandbox import process
from sandbox.checkout import Code
from sandbox.ports import free_port
from sandbox.postgres import EmbeddedPostgres
from sandbox.process import SandboxError
from sandbox.redis_server import EmbeddedRedis
from tests.support.databases import Databases

PROJECT = Path(__file__).parents[2]
COMMAND_SECONDS = 180
# Two seconds on an idle machine, but on a crowded one several gateways start side by side.
START_SECONDS = 120

# Variables of every application in tests; further ones are added by name.
VARIABLES = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "LLAMA_BASE_URL": "http://127.0.0.1:1",
    "GATEWAY_SECRET_KEY": "test-session-secret-0123456789-abcdef",
    "KEY_PEPPER": "test-key-pepper-0123456789-abcdefghij",
    "SMTP_TLS": "none",
}


def make_settings(**values: Any) -> Settings:
    """Return complete settings; `values` are fields by name, each already of its type."""
    complete = Settings.from_mapping(VARIABLES)
    if "database_url" in values:
        values["database_url"] = database_url(str(values["database_url"]))
    return replace(complete, **values)


class Servers:
    """Servers of the whole run, started once, with one migrated template database."""

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
    """Migrate a database to the newest schema."""
    app = create_app(make_settings(database_url=url, log_level="warning"))
    with app.app_context():
        flask_migrate.upgrade(directory=str(PROJECT / "migrations"))
        for engine in app.extensions["sqlalchemy"].engines.values():
            engine.dispose()


class WorkerRedis:
    """The Redis of one xdist worker: an embedded server, or one database of REDIS_URL's."""

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
    """promptly under gunicorn, on a free port of the loopback address unless others are given.

    `code` is another release's, if not the current tree's. `enter` is the beginning of a command
    that runs in the network namespace of `host`.
    `variables` are environment variables; limits are too high to matter unless overridden.
    After SIGTERM, running streams go on for DRAIN_SECONDS.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 1,
        port: int | None = None,
        host: str = "127.0.0.1",
        enter: Sequence[str] = (),
        code: Code | None = None,
        **variables: object,
    ) -> None:
        self.code = code or Code()
        self.host = host
        self._enter = enter
        self.port = free_port() if port is None else port
        self.log = directory / "gateway.log"
        self.workers = workers
        self._directory = directory
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            # The working directory is another, so a developer's .env and .promptly are not read.
            "PYTHONPATH": str(self.code.folder),
            **VARIABLES,
            "GATEWAY_BIND": host,
            "GATEWAY_PORT": str(self.port),
            "WEB_CONCURRENCY": str(workers),
            "INFERENCE_IP_RATE_LIMIT": "100000",
            "INFERENCE_USER_RATE_LIMIT": "100000",
            "MAX_CONCURRENT_REQUESTS": "1000",
            "TRIAL_CONCURRENT_REQUESTS": "1000",
            "DRAIN_SECONDS": "2",
            **{name: str(value) for name, value in variables.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether gunicorn's master is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of gunicorn's master; raises SandboxError if it was never started."""
        if self._process is None:
            raise SandboxError("the gateway was never started")
        return self._process.pid

    def worker_pids(self) -> list[int]:
        """Return the process ids of the running workers."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []

    def start(self) -> "Gateway":
        """Start gunicorn and return once it answers and has all its workers.

        Raises SandboxError with the end of the log if it ends, or takes START_SECONDS.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        configuration = self.code.folder / "gunicorn.conf.py"
        self._process = process.spawn(
            [*self._enter, self.code.python, "-m", "gunicorn", "-c", configuration, "wsgi:app"],
            log=self.log,
            env=self.environment,
            cwd=self._directory,
        )
        try:
            process.wait_until(self.is_ready, START_SECONDS, "gunicorn")
        except SandboxError as error:
            self.kill()
            raise SandboxError(f"{error}\n{process.tail(self.log)}") from error
        return self

    def is_ready(self) -> bool:
        """Return whether /health answers and no worker is missing.

        Raises SandboxError if gunicorn has ended.
        """
        if not self.is_running:
            raise SandboxError("gunicorn ended")
        try:
            answer = urllib3.request(
                "GET",
                f"{self.url}/health",
                # An idle connection would delay a graceful shutdown.
                headers={"Connection": "close"},
                retries=False,
                timeout=2.0,
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200 and len(self.worker_pids()) == self.workers

    def flask(self, *arguments: str) -> str:
        """Run a command of the CLI as on the gateway's machine, and return its output."""
        done = self.run_flask(*arguments)
        assert done.returncode == 0, f"flask {' '.join(arguments)}\n{done.stderr[-3000:]}"
        return done.stdout

    def run_flask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run such a command to its end, whether it succeeds or not."""
        self._directory.mkdir(parents=True, exist_ok=True)
        migrations = self._directory / "migrations"
        if not migrations.exists():
            # Commands look for them in the working directory.
            migrations.symlink_to(self.code.folder / "migrations")
        return subprocess.run(
            [*self._enter, self.code.python, "-m", "flask", "--app", "wsgi", *arguments],
            env=self.environment,
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        os.kill(self.pid, signal.SIGTERM)

    def stop(self, timeout_seconds: float = 20.0) -> None:
        """Stop gunicorn with SIGTERM; kill it after `timeout_seconds`."""
        if self._process is not None:
            process.stop(self._process, (signal.SIGTERM, timeout_seconds))
            self._process = None

    def kill(self) -> None:
        """Kill the master and all workers with SIGKILL."""
        workers = [] if self._process is None else self.worker_pids()
        if self._process is not None:
            process.stop(self._process)
            self._process = None
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def log_text(self) -> str:
        """Return everything logged so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
