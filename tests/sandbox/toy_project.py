"""A folder with the few files that `make run` needs, and a toy application behind them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from sandbox.ports import free_port
from sandbox.process import wait_until

ROOT = Path(__file__).parents[2]
PARTS = ("wsgi.py", "gunicorn.conf.py", "celeryconfig.py", "migrations", "templates", "static")

WSGI = """
import click
import psycopg2
import redis
import urllib.request
from celery import Celery
from flask import Flask

from promptly.settings import from_environment

settings = from_environment()
app = Flask("toy")
celery = Celery("toy", broker=settings.redis_url.replace("unix://", "redis+socket://"))
database_url = settings.database_url.replace("+psycopg2", "")


@app.cli.group()
def db():
    pass


@db.command()
def upgrade():
    with psycopg2.connect(database_url) as connection:
        connection.cursor().execute("CREATE TABLE IF NOT EXISTS visit (at timestamptz)")


@app.cli.command()
def visits():
    with psycopg2.connect(database_url) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM visit")
        click.echo(cursor.fetchone()[0])


@app.get("/health/ready")
def ready():
    redis.Redis.from_url(settings.redis_url).ping()
    urllib.request.urlopen(settings.llama_base_url[0] + "/health")
    with psycopg2.connect(database_url) as connection:
        connection.cursor().execute("INSERT INTO visit VALUES (now())")
    return {"status": "ok"}
"""

GUNICORN = """
from promptly.settings import from_environment

bind = f"127.0.0.1:{from_environment().gateway_port}"
worker_class = "gthread"
graceful_timeout = 5
"""


class ToyProject:
    """One folder in which ``make run`` is started as a user would start it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.output = folder / "output"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "wsgi.py").write_text(WSGI)
        (folder / "gunicorn.conf.py").write_text(GUNICORN)

    @property
    def printed(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def start(self, **variables: str) -> None:
        """Start without waiting until it is ready."""
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox.run"],
                cwd=self.folder,
                env=self._environment(variables),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_and_wait(self, **variables: str) -> None:
        self.start(**variables)
        process = self.process
        assert process is not None
        wait_until(
            lambda: "is ready" in self.printed or process.poll() is not None, 90, "the start"
        )
        assert process.poll() is None, self.printed

    def wait(self, timeout_seconds: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(timeout_seconds)

    def stop(self) -> int:
        """Send SIGINT, as Ctrl-C does, and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def family(self) -> list[psutil.Process]:
        """Return all descendants of the supervisor process."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def flask(self, *arguments: str) -> str:
        """Run a flask command in the folder, without any variable set, and return its output."""
        answer = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", *arguments],
            cwd=self.folder,
            env=self._environment({}, port=False),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def clean(self) -> None:
        if self.process is not None and self.process.poll() is None:
            family = self.family()
            self.process.kill()
            self.process.wait()
            wait_until_gone(family)

    def _environment(self, variables: dict[str, str], *, port: bool = True) -> dict[str, str]:
        clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        clean["PYTHONPATH"] = str(ROOT)
        if port:
            clean["GATEWAY_PORT"] = str(self.port)
        return clean | variables


def real_project(folder: Path) -> ToyProject:
    """Return a folder of its own with symlinks to the product itself."""
    project = ToyProject(folder)
    for name in PARTS:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(ROOT / name)
    return project


def wait_until_gone(family: list[psutil.Process], timeout_seconds: float = 20) -> None:
    deadline = time.monotonic() + timeout_seconds
    left = family
    while left and time.monotonic() < deadline:
        left = [process for process in left if _lives(process)]
        time.sleep(0.05)
    assert not left, [(process.pid, process.cmdline()) for process in left]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
