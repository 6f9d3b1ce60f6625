"""A real PostgreSQL 16 from a wheel, as a child process, on a Unix socket only."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg2
from psycopg2 import errors, sql

from sandbox import account, postgres_places, process
from sandbox.process import SandboxError

SUPERUSER = "postgres"
SOCKET_NAME = ".s.PGSQL.5432"
START_TIMEOUT_SECONDS = 60.0
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - only inspected
SHARED_MEMORY_BYTES = 32 * 1024 * 1024

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    # Parallel workers share memory in /dev/shm, which is tiny in some containers.
    "max_parallel_workers_per_gather": "0",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
# A commit still reaches the kernel before it is acknowledged: it survives kill(), not power loss.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A PostgreSQL server whose data lives in ``directory`` and outlives the server.

    Started by root, it runs as another user; in that case, or if the file system is unsuitable,
    the data may lie elsewhere, and ``directory`` holds a pointer to it (postgres_places.py).
    ``durable=False`` skips every flush to disk, for throw-away databases. ``settings`` are
    additional server parameters.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = True,
        settings: dict[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.log = log or self.directory / "postgres.log"
        self._durable = durable
        self._settings = SETTINGS | ({} if durable else NOT_DURABLE) | (settings or {})
        if not _has_shared_memory():
            self._settings.setdefault("dynamic_shared_memory_type", "mmap")
        self._account: account.Account | None = None
        self._programs: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None if it is not running."""
        return self._process.pid if self._process is not None and self.is_running else None

    def url(self, database: str = "promptly") -> str:
        """Return a database's SQLAlchemy and libpq URL; SandboxError before the first start."""
        if self._sockets is None:
            raise SandboxError("PostgreSQL was never started")
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self._sockets), safe='/')}"

    def start(self) -> None:
        """Start the server, initializing its data folder the first time; return when it is ready.

        Raises SandboxError with the end of the server's log if it does not come up.
        """
        if self.is_running:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._programs is None:
            self._account = account.server_account(self.data)
            self._programs = postgres_places.programs(self._account)
        self.data = postgres_places.data_folder(
            self.directory, self._account, lasting=self._durable
        )
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._clear_stale_pid_file()
        if self._sockets is None or not self._sockets.is_dir():
            self._sockets = self._new_sockets()
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._try_start():
            # Backends of a killed server may hold its shared memory a moment longer.
            if time.monotonic() > deadline or "shared memory" not in process.tail(self.log, 3):
                raise SandboxError(f"PostgreSQL did not start:\n{process.tail(self.log)}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Shut down in PostgreSQL's fast mode: end the sessions, flush the data."""
        if self._process is not None:
            process.stop(self._process, (signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))
            self._process = None
        self._remove_sockets()

    def restart(self) -> None:
        """Restart at the same URL."""
        if self._process is not None:
            process.stop(self._process, (signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))
            self._process = None
        self.start()

    def kill(self) -> None:
        """Kill the whole server with SIGKILL, as a crash of the machine would."""
        if self._process is None or not self.is_running:
            return
        postmaster = psutil.Process(self._process.pid)
        postmaster.suspend()  # so that it forks no child while we list them
        family = [*postmaster.children(recursive=True), postmaster]
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()
        self._process = None
        process.wait_until(lambda: not any(map(_lives, family)), 10, "the end of PostgreSQL")

    def create_database(self, name: str = "promptly") -> str:
        """Create a database unless it exists, and return its URL."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        with closing(psycopg2.connect(self.url("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                try:
                    cursor.execute(statement)
                except errors.DuplicateDatabase:
                    return self.url(name)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, ending the sessions that use it."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with closing(psycopg2.connect(self.url("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def _initialise(self) -> None:
        for part in self.data.iterdir():  # left by an interrupted initdb
            shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()
        if self._account is None:
            account.check_name(os.geteuid())
        arguments = ["-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        if shared_memory := self._settings.get("dynamic_shared_memory_type"):
            arguments += ["--set", f"dynamic_shared_memory_type={shared_memory}"]
        if self._spawn("initdb", *arguments).wait() != 0:
            raise SandboxError(f"initdb failed:\n{process.tail(self.log)}")

    def _try_start(self) -> bool:
        arguments = ["-k", str(self._sockets)]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        self._process = self._spawn("postgres", *arguments, death_signal=signal.SIGINT)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._process = None
                return False
            if self._pid_file()[7:8] == ["ready"]:
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def _spawn(
        self, program: str, *arguments: str, death_signal: signal.Signals = signal.SIGTERM
    ) -> subprocess.Popen[bytes]:
        assert self._programs is not None
        return process.spawn(
            [self._programs / program, "-D", self.data, *arguments],
            log=self.log,
            user=None if self._account is None else (self._account.uid, self._account.gid),
            death_signal=death_signal,
            env=_environment(),
            cwd=self.data,
        )

    def _new_sockets(self) -> Path:
        sockets = process.socket_directory(self.directory / "socket", SOCKET_NAME)
        if self._account is not None:
            self._account.give(sockets)
            if not self._account.can_enter(sockets):
                sockets = process.temporary_socket_directory()
                self._account.give(sockets)
        return sockets

    def _pid_file(self) -> list[str]:
        try:
            text = (self.data / "postmaster.pid").read_text()
        except OSError:
            return []
        return [line.strip() for line in text.splitlines()]

    def _clear_stale_pid_file(self) -> None:
        """Remove the pid file of a dead server; wait for a server that is still stopping.

        PostgreSQL does this itself only while no other process has reused the pid.
        """
        lines = self._pid_file()
        if not lines:
            return
        try:
            server = psutil.Process(int(lines[0]))
            if str(self.data) in server.cmdline():
                server.wait(START_TIMEOUT_SECONDS)
        except psutil.TimeoutExpired as error:
            raise SandboxError(
                f"another PostgreSQL (process {lines[0]}) uses {self.data}; stop it first"
            ) from error
        except (psutil.NoSuchProcess, ValueError):
            pass
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _remove_sockets(self) -> None:
        if self._sockets is not None and not self._sockets.is_relative_to(self.directory):
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None


def _has_shared_memory() -> bool:
    """Whether /dev/shm, PostgreSQL's default shared memory on Linux, has enough room."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return not sys.platform.startswith("linux")
    return found.f_bavail * found.f_frsize >= SHARED_MEMORY_BYTES


def _environment() -> dict[str, str]:
    """Return an environment without PG* variables and locale, which would affect the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _lives(member: psutil.Process) -> bool:
    try:
        return member.is_running() and member.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
