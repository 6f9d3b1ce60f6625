"""The commands and health checks of docker-compose.yml, run by hand in place of Docker."""

import json
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import urllib3
from sqlalchemy import make_url

from sandbox import process
from sandbox.ports import free_port
from sandbox.process import wait_until
from sandbox.redis_program import find_redis_server
from sandbox.redis_server import SOCKET_NAME, EmbeddedRedis
from tests.deploy.compose import production
from tests.deploy.image import ENVIRONMENT, Image
from tests.support.databases import Databases
from tests.support.servers import VARIABLES
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.slow

# Special in URLs, shells or both. Not `$`, which Compose escapes in its output.
PASSWORD = "p@ss:/w%rd 'x' \\ #1"
START_SECONDS = 60
# As `stop_grace_period` of the worker in docker-compose.yml.
STOP_SECONDS = 60


@dataclass
class Deployment:
    """The services of docker-compose.yml on an image, one container at a time."""

    image: Image
    services: dict[str, Any]
    logs: Path
    port: int
    ends: ExitStack

    def environment(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.services[name]["environment"]
        return found

    def start(self, name: str) -> subprocess.Popen[bytes]:
        command = self.services[name]["command"]
        container = self.image.start(command, self.environment(name), self.log(name))
        self.ends.callback(process.stop, container, (signal.SIGTERM, STOP_SECONDS))
        return container

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def is_healthy(self, name: str, container: subprocess.Popen[bytes]) -> bool:
        """Run the service's health check in its container."""
        assert container.poll() is None, process.tail(self.log(name))
        kind, *command = self.services[name]["healthcheck"]["test"]
        if kind == "CMD-SHELL":
            command = ["sh", "-c", *command]
        return self.image.execute(container, command, self.environment(name)).returncode == 0

    def start_healthy(self, name: str) -> subprocess.Popen[bytes]:
        container = self.start(name)
        wait_until(lambda: self.is_healthy(name, container), START_SECONDS, name)
        return container

    def end(self, name: str, container: subprocess.Popen[bytes]) -> None:
        """Send SIGTERM, and assert that the service ends in order."""
        container.terminate()
        try:
            status: int | None = container.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        assert status == 0, f"status {status}:\n{process.tail(self.log(name))}"


def on_tcp(url: str, ends: ExitStack) -> str:
    """Return a PostgreSQL URL that a container can reach, whose /tmp is another."""
    parts = make_url(url)
    if "host" not in parts.query:
        return url
    proxy = TcpProxy(f"{parts.query['host']}/.s.PGSQL.5432")
    ends.callback(proxy.close)
    return f"postgresql://{parts.username}@127.0.0.1:{proxy.port}/{parts.database}"


def start_redis(folder: Path, ends: ExitStack) -> str:
    """Start a Redis with the password, and return its URL without it."""
    server = EmbeddedRedis(folder)
    ends.callback(server.stop)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", PASSWORD)
    proxy = TcpProxy(server.url.removeprefix("unix://"))
    ends.callback(proxy.close)
    return f"redis://127.0.0.1:{proxy.port}/0"


@pytest.fixture(scope="module")
def deployment(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """An image, and the services' configuration for an empty database and a Redis."""
    # The folders as well: pip makes scripts readable whatever the umask says.
    scripts = ENVIRONMENT / "bin"
    if not all(
        path.stat().st_mode & stat.S_IROTH for path in (ENVIRONMENT, scripts, scripts / "flask")
    ):
        pytest.skip("other users cannot read the virtual environment: make it with umask 022")
    folder = tmp_path_factory.mktemp("deployment")
    with ExitStack() as ends:
        name = databases.create()
        ends.callback(databases.drop, name)
        (folder / ".env").write_text(
            "".join(f"{key}={value}\n" for key, value in VARIABLES.items() if "URL" not in key)
            + f"LLAMA_BASE_URL={VARIABLES['LLAMA_BASE_URL']}\nWEB_CONCURRENCY=1\n"
        )
        services = production(
            folder,
            DATABASE_URL=on_tcp(databases.url(name), ends),
            REDIS_URL=start_redis(folder / "redis", ends),
            REDIS_PASSWORD=PASSWORD,
        )
        port = free_port()
        services["listener"]["environment"] |= {
            "GATEWAY_BIND": "127.0.0.1",
            "GATEWAY_PORT": str(port),
        }
        image = Image(folder)
        made = Deployment(image, services, folder, port, ends)
        migrate = made.start("migrate")
        assert migrate.wait(START_SECONDS) == 0, process.tail(made.log("migrate"))
        yield made


@pytest.mark.as_root
def test_beat_in_a_closed_container(deployment: Deployment) -> None:
    beat = deployment.start_healthy("beat")
    look = "id -u; grep CapEff /proc/self/status; touch /app/x /opt/x /x; touch /tmp/x && ls /tmp/x"
    shown = deployment.image.execute(beat, ["sh", "-c", look], {})
    assert shown.stdout.split() == ["10001", "CapEff:", "0000000000000000", "/tmp/x"]
    assert len(shown.stderr.splitlines()) == 3
    deployment.end("beat", beat)


@pytest.mark.as_root
def test_the_worker_dates_its_pidfile(deployment: Deployment) -> None:
    worker = deployment.start_healthy("worker")

    def last_heartbeat() -> str:
        dated = deployment.image.execute(worker, ["stat", "--format=%y", "/tmp/worker.pid"], {})
        return dated.stdout

    first = last_heartbeat()
    wait_until(lambda: last_heartbeat() > first, START_SECONDS, "a heartbeat")
    deployment.end("worker", worker)


@pytest.mark.as_root
def test_gateway_and_listener(deployment: Deployment) -> None:
    listener = deployment.start_healthy("listener")
    gateway = deployment.start_healthy("gateway")
    url = f"http://127.0.0.1:{deployment.port}/health"
    # An idle connection would delay the end.
    answer = urllib3.request("GET", url, headers={"Connection": "close"}, timeout=10)
    assert (answer.status, answer.json()) == (200, {"status": "ok"})
    # The documented check, which also shows that the password of Redis arrived.
    command = ["flask", "--app", "wsgi", "doctor", "--json"]
    doctor = deployment.image.execute(gateway, command, deployment.environment("gateway"))
    levels = {item["check"]: item["level"] for item in json.loads(doctor.stdout)["findings"]}
    assert levels["PostgreSQL"] == levels["Migrations"] == levels["Redis"] == "ok"
    deployment.end("gateway", gateway)
    deployment.end("listener", listener)


@pytest.fixture
def start_service_redis(tmp_path: Path) -> Iterator[Callable[[str], tuple[psutil.Process, str]]]:
    """Run the command of `redis` with a password; returns the process and its URL without it.

    The image's entry point is replaced by one that moves the server to a Unix socket.
    """
    sockets = process.temporary_socket_directory()
    entry = tmp_path / "docker-entrypoint.sh"
    options = f"--port 0 --unixsocket {sockets / SOCKET_NAME} --dir {tmp_path}"
    entry.write_text(f'#!/bin/sh\nshift\nexec {find_redis_server()} "$@" {options}\n')
    entry.chmod(0o755)
    started: list[subprocess.Popen[bytes]] = []

    def start(password: str) -> tuple[psutil.Process, str]:
        service = production(tmp_path, REDIS_PASSWORD=password)["redis"]
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **service["environment"]}
        server = process.spawn(service["command"], log=tmp_path / "log", env=environment)
        started.append(server)
        wait_until((sockets / SOCKET_NAME).exists, START_SECONDS, "Redis")
        return psutil.Process(server.pid), f"unix://{sockets / SOCKET_NAME}"

    yield start
    for server in started:
        process.stop(server, (signal.SIGTERM, STOP_SECONDS))
    shutil.rmtree(sockets)


def test_redis_has_no_password_by_default(
    start_service_redis: Callable[[str], tuple[psutil.Process, str]],
) -> None:
    _, url = start_service_redis("")
    with redis.Redis.from_url(url) as client:
        assert client.ping()
        names = ("save", "appendonly", "maxmemory", "maxmemory-policy")
        found = {name: client.config_get(name)[name] for name in names}
    assert found == {
        "save": "",
        "appendonly": "no",
        "maxmemory": str(384 * 1024 * 1024),
        "maxmemory-policy": "noeviction",
    }


def test_redis_requires_its_password_and_does_not_show_it(
    start_service_redis: Callable[[str], tuple[psutil.Process, str]],
) -> None:
    server, url = start_service_redis(PASSWORD)
    with redis.Redis.from_url(url) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with redis.Redis.from_url(url, password=PASSWORD) as client:
        assert client.ping()
    assert PASSWORD not in " ".join(server.cmdline())
