"""Everything a run needs besides the two measured servers: PostgreSQL, Redis, the stub.

All of it, and the load generator, runs on ``SERVICE_CPU``; the measured server has ``TARGET_CPU``.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import psycopg2.extensions
import redis
from psycopg2 import sql
from sqlalchemy import make_url

from bench import cpu
from sandbox import process
from sandbox.ports import free_port
from sandbox.postgres import EmbeddedPostgres
from sandbox.process import SandboxError
from sandbox.redis_server import EmbeddedRedis

ROOT = Path(__file__).resolve().parent.parent
CPUS = sorted(os.sched_getaffinity(0))
TARGET_CPU = CPUS[0]
SERVICE_CPU = CPUS[-1]
_START_SECONDS = 180.0


class Service:
    """One child process, pinned to cores, with its log."""

    def __init__(
        self,
        command: list[str | Path],
        log: Path,
        cores: Collection[int],
        env: dict[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.log = log
        self.popen: subprocess.Popen[bytes] = process.spawn(command, log=log, env=env, cwd=cwd)
        os.sched_setaffinity(self.popen.pid, cores)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_for(self, url: str, timeout_seconds: float = _START_SECONDS) -> None:
        """Wait until the URL answers 200; stop the service if it does not.

        Raises SandboxError with the log.
        """
        try:
            if not self._answers(url, timeout_seconds):
                raise SandboxError(f"{url} did not answer:\n{process.tail(self.log, 40)}")
        except BaseException:
            self.stop()
            raise

    def _answers(self, url: str, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline and self.popen.poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200:
                        return True
            except OSError:
                time.sleep(0.05)
        return False

    def stop(self) -> None:
        process.stop(self.popen, (signal.SIGTERM, 10.0))


@dataclass
class Stores:
    """The database and the Redis of a gateway."""

    database_url: str
    redis_url: str
    redis_pid: int | None = None
    """None if it does not run on this machine."""


class System:
    """PostgreSQL, Redis and the stub upstream, running in ``directory``; a context manager.

    ``DATABASE_URL`` and ``REDIS_URL`` in the environment replace the embedded servers.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database_url = os.environ.get("DATABASE_URL", "")
        self.redis_url = os.environ.get("REDIS_URL", "")
        self.stub_port = free_port()
        self.postgres_pid: int | None = None
        self.redis_pid: int | None = None
        self.stub: Service
        self._stack = ExitStack()

    def __enter__(self) -> "System":
        with self._stack as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        os.sched_setaffinity(0, {SERVICE_CPU})  # children inherit it
        if not self.database_url:
            postgres = EmbeddedPostgres(self.directory / "postgres")
            stack.callback(postgres.stop)
            postgres.start()
            postgres.create_database("promptly")
            self.database_url = postgres.url("promptly")
        if not self.redis_url:
            server = EmbeddedRedis(self.directory / "redis")
            stack.callback(server.stop)
            server.start()
            self.redis_url = server.url
        self.postgres_pid = self._find_postgres()
        self.redis_pid = _find_redis(self.redis_url)
        port = str(self.stub_port)
        command: list[str | Path] = [sys.executable, "-m", "bench.stub_upstream", "--port", port]
        self.stub = Service(command, self.directory / "stub.log", [SERVICE_CPU])
        stack.callback(self.stub.stop)
        self.stub.wait_for(f"http://127.0.0.1:{self.stub_port}/health")

    @property
    def stores(self) -> Stores:
        """The stores of the only gateway."""
        return Stores(self.database_url, self.redis_url, self.redis_pid)

    @contextmanager
    def new_stores(self, name: str) -> Iterator[Stores]:
        """Yield stores of its own for one of two gateways, which would share slots on one Redis.

        The database is on the same PostgreSQL, and is dropped at the end.
        """
        database = f"bench_{name}_{secrets.token_hex(4)}"
        url = make_url(self.database_url).set(database=database)
        server = EmbeddedRedis(self.directory / f"{name}-redis")
        with ExitStack() as stack:
            self._execute("CREATE DATABASE {}", database)
            stack.callback(self._execute, "DROP DATABASE {} WITH (FORCE)", database)
            stack.callback(server.stop)
            server.start()
            full_url = url.render_as_string(hide_password=False)
            yield Stores(full_url, server.url, _find_redis(server.url))

    def postgres_settings(self) -> dict[str, str]:
        """Return the settings that determine the cost of a durable commit."""
        names = ["server_version", "fsync", "synchronous_commit", "full_page_writes"]
        found = {}
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            for name in names:
                cursor.execute(f"SHOW {name}")
                row = cursor.fetchone()
                found[name] = str(row[0]) if row else ""
        return found

    def _connect(self) -> psycopg2.extensions.connection:
        url = self.database_url.replace("postgresql+psycopg2://", "postgresql://", 1)
        return psycopg2.connect(url)

    def _find_postgres(self) -> int | None:
        """Return the postmaster's process id if it runs on this machine."""
        with closing(self._connect()) as connection:
            backend = connection.info.backend_pid
            return _local(lambda: cpu.parent(backend) if _name(backend) == "postgres" else None)

    def _execute(self, statement: str, database: str) -> None:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(sql.SQL(statement).format(sql.Identifier(database)))


def _find_redis(url: str) -> int | None:
    """Return the Redis server's process id if it runs on this machine."""
    with closing(redis.Redis.from_url(url)) as client:
        information = client.info("server")
        assert isinstance(information, dict)
        pid = int(information["process_id"])
        return _local(lambda: pid if _name(pid) == "redis-server" else None)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _local(find: Callable[[], int | None]) -> int | None:
    try:
        return find()
    except OSError:
        return None
