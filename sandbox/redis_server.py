"""A real Redis, as a child process, on a Unix socket unless its settings name a port."""

import shutil
from pathlib import Path
from typing import ClassVar

import redis

from sandbox import process
from sandbox.process import Child, SandboxError
from sandbox.redis_program import find_redis_server

SOCKET_NAME = "redis.sock"
START_TIMEOUT_SECONDS = 30.0


class EmbeddedRedis(Child):
    """A Redis server in ``directory``; ``persistent`` keeps its data across restarts.

    ``settings`` are further directives of its configuration.
    """

    stop_seconds: ClassVar[float] = 10.0

    def __init__(
        self,
        directory: Path,
        *,
        persistent: bool = False,
        settings: dict[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.persistent = persistent
        self._settings = {"port": "0", **(settings or {})}
        self.log = log or self.directory / "redis.log"
        self._sockets: Path | None = None

    @property
    def url(self) -> str:
        """The ``unix://`` URL. Raises SandboxError before the first start."""
        if self._sockets is None:
            raise SandboxError("Redis was never started")
        return f"unix://{self._sockets / SOCKET_NAME}"

    def start(self) -> None:
        """Start the server and return when it answers.

        Raises SandboxError with the end of the log if it does not come up.
        """
        if self.is_running:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._sockets is None or not self._sockets.is_dir():
            self._sockets = process.socket_directory(self.directory / "socket", SOCKET_NAME)
        (self._sockets / SOCKET_NAME).unlink(missing_ok=True)  # left by a killed server
        command: list[str | Path] = [find_redis_server(), "--daemonize", "no"]
        for name, value in self._settings.items():
            command += [f"--{name}", value]
        command += ["--unixsocket", self._sockets / SOCKET_NAME, "--unixsocketperm", "700"]
        command += ["--dir", self.directory, "--save", ""]
        command += ["--appendonly", "yes" if self.persistent else "no"]
        self._process = process.spawn(command, log=self.log, cwd=self.directory)
        try:
            process.wait_until(self._answers, START_TIMEOUT_SECONDS, "Redis")
        except SandboxError as error:
            self.stop()
            raise SandboxError(f"Redis did not start:\n{process.tail(self.log)}") from error

    def stop(self) -> None:
        self._end()
        if self._sockets is not None and not self._sockets.is_relative_to(self.directory):
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    def restart(self) -> None:
        """Restart at the same URL."""
        self._end()
        self.start()

    def _answers(self) -> bool:
        if not self.is_running:
            raise SandboxError("it ended at once")
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
