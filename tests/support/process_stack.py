"""The whole of promptly on servers that a test may kill: the parts of `make run`, one by one.

Nothing is shared with other tests, and DATABASE_URL and REDIS_URL are ignored: these tests stop,
freeze and kill the servers they use.
"""

import atexit
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol, Self, TypeVar

import psutil
import psycopg2
import urllib3

from sandbox import process
from sandbox.btcpay import SimulatedBTCPay
from sandbox.checkout import Code
from sandbox.child_server import LOOPBACK
from sandbox.llama import SimulatedLlama
from sandbox.mail import MailCatcher
from sandbox.postgres import EmbeddedPostgres
from sandbox.redis_server import EmbeddedRedis
from sandbox.stripe import SimulatedStripe
from tests.support.books import wait_for
from tests.support.load import Reply
from tests.support.servers import migrate
from tests.support.sockets import connected
from tests.support.stack import Server, Stack


class Site(Protocol):
    """One address in front of one gateway or several."""

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...

    def worker_pids(self) -> list[int]: ...


class Background:
    """The Celery worker and beat, as in production."""

    def __init__(
        self,
        directory: Path,
        environment: dict[str, str],
        code: Code | None = None,
        enter: Sequence[str] = (),
    ) -> None:
        self.logs = [directory / "worker.log", directory / "beat.log"]
        self._directory, self._environment = directory, environment
        python = (code or Code()).python
        command: list[str | Path] = [python, "-m", "celery", "--quiet", "-A", "wsgi:celery"]
        beat = ["beat", f"--schedule={directory / 'schedule'}", "--pidfile="]
        self._commands = [[*enter, *command, "worker"], [*enter, *command, *beat]]
        self._processes: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        """Start both, after `stop` or `kill`; they take seconds to become ready."""
        self._processes = [
            process.spawn(command, log=log, env=self._environment, cwd=self._directory)
            for command, log in zip(self._commands, self.logs, strict=True)
        ]

    def stop(self) -> None:
        """Stop both; kill a worker that does not end within 15 s, and its remaining children."""
        self._end((signal.SIGTERM, 15.0))

    def kill(self) -> None:
        """Kill both and all of their children with SIGKILL."""
        self._end()

    def _end(self, *steps: tuple[signal.Signals, float]) -> None:
        for child in reversed(self._processes):
            # The id of one that has ended may belong to another process by now.
            family = _family(child.pid) if child.poll() is None else []
            process.stop(child, *steps)
            for member in family:
                if member.is_running():
                    member.kill()
        self._processes = []


@cache
def migrated_data() -> Path:
    """Return the data directory of a stopped server with an empty, migrated database `promptly`."""
    directory = Path(tempfile.mkdtemp(prefix="promptly-stack-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    server = EmbeddedPostgres(directory)
    server.start()
    try:
        migrate(server.create_database("promptly"))
    finally:
        server.stop()
    return server.data


def copy_migrated_data(server: EmbeddedPostgres) -> None:
    """Copy the migrated data, owner included, to a new server: a tenth of the time to make them."""
    server.directory.mkdir(parents=True)
    subprocess.run(["cp", "-a", migrated_data(), server.directory / "data"], check=True)


class ProcessStack(Stack):
    """PostgreSQL, Redis, a simulated llama-server, a mail catcher, and promptly's processes.

    `variables` are environment variables for every process, in addition to the addresses; `llama`
    are options of the simulator, `postgres` and `redis` further server parameters; `host` is the
    address that the simulator and the mail catcher listen on. The database has today's schema, or
    none unless `migrated`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        llama: dict[str, Any] | None = None,
        postgres: dict[str, str] | None = None,
        redis: dict[str, str] | None = None,
        host: str = LOOPBACK,
        migrated: bool = True,
        **variables: object,
    ) -> None:
        super().__init__(directory)
        self.variables = {"HOLD_QUANTUM_TOKENS": 64, **variables}
        self.postgres = EmbeddedPostgres(directory / "postgres", settings=postgres)
        self.redis = EmbeddedRedis(directory / "redis", persistent=True, settings=redis)
        options = {"slots": 64, "host": host, **(llama or {})}
        self.llama = SimulatedLlama(directory / "llama", **options)
        self.mail = MailCatcher(directory / "mail", listen_on=host)
        self._host = host
        self._migrated = migrated
        self.backgrounds: list[Background] = []

    def start(self) -> Self:
        """Start the servers, PostgreSQL on a copy of the migrated data."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._ends.callback(shutil.rmtree, self.directory, ignore_errors=True)
        if self._migrated:
            copy_migrated_data(self.postgres)
        servers: tuple[Server, ...] = (self.postgres, self.redis, self.llama, self.mail)
        for server in servers:
            self.run(server)
        self.database_url = self.postgres.create_database("promptly")
        self.redis_url = self.redis.url
        self.variables["LLAMA_BASE_URL"] = self.llama.url
        self.variables["SMTP_HOST"] = self.mail.host
        self.variables["SMTP_PORT"] = self.mail.port
        return self

    def stop_background(self) -> None:
        """Stop every Celery worker and beat."""
        for background in self.backgrounds:
            background.stop()

    def start_background(self) -> None:
        """Start the Celery worker and beat; they take seconds to become ready."""
        self._start_background("celery", self.make_gateway().environment)

    def _start_background(
        self, name: str, environment: dict[str, str], enter: Sequence[str] = ()
    ) -> None:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        background = Background(directory, environment, enter=enter)
        self.backgrounds.append(background)
        self._ends.callback(background.stop)

    def site(self, workers: int = 1, **variables: object) -> Site:
        """Start the gateways that the test's clients use."""
        return self.gateway(workers=workers, **variables)

    def payment_providers(self, *retry_seconds: float) -> tuple[SimulatedStripe, SimulatedBTCPay]:
        """Start both, and configure the gateways that are made from now on for them."""
        options: dict[str, Any] = {"host": self._host, "retry_seconds": retry_seconds}
        stripe, btcpay = self.run(SimulatedStripe(**options)), self.run(SimulatedBTCPay(**options))
        for name, value in {**stripe.variables(), **btcpay.variables()}.items():
            self.variables[name] = self.seen_from_gateways(value)
        return stripe, btcpay

    def seen_from_gateways(self, url: str) -> str:
        """Return a stand-in's URL as gateways reach it."""
        return url

    def wait_for_sweeps(self) -> None:
        """Wait for the first sweep, and end the grace period that it gives living processes.

        A sweep that runs continuously, as in production, gives none.
        """
        wait_for(lambda: bool(self.books.rows("SELECT 1 FROM sweep_states")), "a sweep", 60)
        self.books.rows("UPDATE sweep_states SET grace_until = now()")

    def shut_postgres_down(self) -> None:
        """Shut PostgreSQL down in order; restarted, it keeps its URL, unlike after `stop`."""
        server = psutil.Process(self.postgres.pid)
        server.send_signal(signal.SIGINT)
        server.wait(20)

    def log_texts(self) -> dict[str, str]:
        """Return everything that promptly's processes have logged, by file."""
        found = [gateway.log for gateway in self.gateways]
        found += [log for background in self.backgrounds for log in background.logs]
        return {
            str(path.relative_to(self.directory)): path.read_text(errors="replace")
            for path in found
            if path.exists()
        }

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the simulator's records by tag."""
        return {record["tag"]: record for record in self.llama.requests() if record["tag"]}

    def streams_of(self, worker: int) -> int:
        """Return how many connections to the simulator a gunicorn worker has open."""
        return connected(worker, self.llama.port)

    def events(self) -> dict[str, dict[str, Any]]:
        """Return all usage events by public request id; each request has at most one."""
        rows = self.books.rows(
            "SELECT *, charged_paid + charged_trial AS charged_tokens FROM usage_events"
        )
        events = {f"req_{row['request_id'].hex}": row for row in rows}
        assert len(events) == len(rows), "a request has two usage events"
        return events

    def check_charges(self, replies: list[Reply], *, exact: bool = True) -> None:
        """Assert that each request was charged what the simulator counted (`exact`), or less.

        A request that upstream never saw was charged nothing; one without output, at most its
        prompt; one whose client never learned its id, nothing.
        """
        records, events = self.records(), self.events()
        known = set()
        for reply in replies:
            record = records.get(reply.tag)
            known.add(reply.request_id)
            charged = _charged(events.get(reply.request_id))
            if record is None:
                assert charged == 0, reply
                continue
            counted = record["prompt_tokens"] + record["completion_tokens"]
            if not record["completion_tokens"]:
                assert charged <= counted, (reply, record)
                continue
            assert charged <= counted, (reply, record, events.get(reply.request_id))
            if exact:
                assert charged == counted, (reply, record, events.get(reply.request_id))
            if reply.usage is not None:
                assert charged == reply.usage["total_tokens"], reply
        unknown = [event for name, event in events.items() if name not in known]
        assert not [event for event in unknown if event["charged_tokens"]], unknown

    def check_books(self) -> None:
        """Assert that no hold is open and that `flask ledger verify` reports no difference."""
        assert self.books.open_holds() == 0
        assert self.books.differences() == []


StackT = TypeVar("StackT", bound=ProcessStack)


@contextmanager
def running(stack: StackT) -> Iterator[StackT]:
    """Start the stack for the block."""
    with stack:
        yield stack.start()


@contextmanager
def polled(url: str, statement: str, user_id: int) -> Iterator[list[Any]]:
    """Run a query about one account every 10 ms during the block; yield all its rows."""
    rows: list[Any] = []
    over = Event()

    def poll() -> None:
        connection = psycopg2.connect(url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not over.is_set():
                cursor.execute(statement, {"user_id": user_id})
                rows.extend(cursor.fetchall() if cursor.description else ())
                over.wait(0.01)
        connection.close()

    thread = Thread(target=poll)
    thread.start()
    try:
        yield rows
    finally:
        over.set()
        thread.join()


def until(condition: Callable[[], bool], what: str, seconds: float) -> float:
    """Wait for a condition and return the seconds it took; fail after `seconds`."""
    started = time.monotonic()
    wait_for(condition, what, seconds)
    return time.monotonic() - started


def ready(url: str) -> int:
    """Return the status of /health/ready."""
    return urllib3.request("GET", f"{url}/health/ready", retries=False, timeout=15.0).status


def register(url: str, email: str) -> int:
    """Register an address and return the response's status."""
    answer = urllib3.request(
        "POST", f"{url}/register", fields={"email": email}, retries=False, timeout=30.0
    )
    return answer.status


def say(figures: str) -> None:
    """Print a test's measurements, which `pytest -rP` or `-s` shows."""
    sys.stdout.write(f"{figures}\n")


def _charged(event: dict[str, Any] | None) -> int:
    return 0 if event is None else int(event["charged_tokens"])


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
