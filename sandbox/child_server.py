"""A server of the sandbox as a child process of a test or of the supervisor."""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from sandbox import process
from sandbox.process import Child, SandboxError

START_TIMEOUT_SECONDS = 60.0
LOOPBACK = "127.0.0.1"


class ChildServer(Child):
    """Base class of the servers that run as ``python -m`` and write their port to a file.

    ``port`` 0 takes a free port, which ``restart()`` keeps. ``host`` is the address to listen on:
    the loopback address, or one that includes it. Without a ``directory`` the server gets a
    temporary one, which ``stop()`` removes.
    """

    module: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        directory: Path | None,
        options: Sequence[str],
        *,
        port: int = 0,
        host: str = LOOPBACK,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self._has_own_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="promptly-"))
        self.log = log or self.directory / f"{self.module.rpartition('.')[2]}.log"
        self.port = port
        self.port_file = self.directory / "port"
        self._options = ["--host", host, *options]
        self._env = env

    def start(self) -> Self:
        """Start the server and return it once it listens. Raises SandboxError otherwise."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", self.module, "--port", str(self.port)]
        command += ["--port-file", str(self.port_file), *self._options]
        self._process = process.spawn(command, log=self.log, env=self._env)
        try:
            process.wait_until(
                lambda: self.port_file.exists() or not self.is_running,
                START_TIMEOUT_SECONDS,
                self.title,
            )
            self.port = int(self.port_file.read_text())
        except (SandboxError, FileNotFoundError) as error:
            self._end()
            raise SandboxError(f"no {self.title}:\n{process.tail(self.log)}") from error
        return self

    def stop(self) -> None:
        self._end()
        if self._has_own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self) -> None:
        """Restart on the same port; state that is not in files is lost."""
        self._end()
        self.start()
