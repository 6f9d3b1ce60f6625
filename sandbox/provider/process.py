"""A provider's stand-in as a child process of a test or of the supervisor."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import orjson
import urllib3

from sandbox import process
from sandbox.process import SandboxError
from sandbox.provider.messages import Signed

START_TIMEOUT_SECONDS = 15.0


class SimulatedProvider:
    """Base class of the simulated Stripe and BTCPay Server.

    ``port`` 0 takes a free port, which ``restart()`` keeps. With ``persistent`` the state outlives
    the process in ``directory``, and so does the port unless another process has taken it.
    Webhooks go to ``webhook_url`` once it is set.
    """

    module: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        directory: Path | None,
        options: Sequence[str],
        keys: Mapping[str, str],
        *,
        port: int = 0,
        persistent: bool = False,
        webhook_url: str = "",
        retry_seconds: Sequence[float] = (0.2, 0.5, 1.0, 2.0),
        log: Path | None = None,
    ) -> None:
        self.port = port
        self._own_directory = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="promptly-provider-"))
        self.log = log or self._directory / "provider.log"
        self._options = list(options)
        self._environment = {**os.environ, **keys}
        if webhook_url:
            self._options += ["--webhook-url", webhook_url]
        self._persistent = persistent
        if persistent:
            self._options += ["--state-file", str(self._directory / "state.json")]
        self._options += ["--retry-seconds", ",".join(str(wait) for wait in retry_seconds)]
        self._process: subprocess.Popen[bytes] | None = None
        self._http = urllib3.PoolManager(
            retries=urllib3.Retry(connect=3, read=0, redirect=0), timeout=60.0
        )

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and return it once it listens. Raises SandboxError otherwise."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        port_file = self._directory / "port"
        if self._persistent and self.port == 0:
            self.port = _port_of_before(port_file)
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", self.module, "--port", str(self.port)]
        command += ["--port-file", str(port_file), *self._options]
        self._process = process.spawn(command, log=self.log, env=self._environment)
        try:
            process.wait_until(
                lambda: port_file.exists() or not self.is_running,
                START_TIMEOUT_SECONDS,
                self.title,
            )
            self.port = int(port_file.read_text())
        except (SandboxError, FileNotFoundError) as error:
            self._end()
            raise SandboxError(f"no {self.title}:\n{process.tail(self.log)}") from error
        return self

    def stop(self) -> None:
        self._end()
        self._http.clear()
        if self._own_directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def restart(self) -> None:
        """Restart on the same port; without ``persistent`` the state is lost."""
        self._end()
        self.start()

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): connections are accepted but get no answer."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a frozen server (SIGCONT)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def reset(self) -> None:
        """Forget all objects, records, faults and rules; keep the endpoint."""
        self.act("reset")

    # API faults.

    def set_fault(self, route: str = "*", **values: Any) -> None:
        """Activate a fault (see ``Fault``) for matching calls, such as ``POST /v1/refunds``.

        Raises SandboxError for an unknown name or an invalid value.
        """
        self.act("faults", route=route, **values)

    def clear_faults(self) -> None:
        self.act("faults/clear")

    def requests(self, route: str = "") -> list[dict[str, Any]]:
        """Return the recorded requests, oldest first: all, or only those to ``POST /some/path``."""
        records: list[dict[str, Any]] = self.act("requests")
        if not route:
            return records
        return [item for item in records if f"{item['method']} {item['path']}" == route]

    # Webhook delivery.

    def set_rule(self, action: str, **values: Any) -> None:
        """Hold, drop, delay or duplicate the next messages: see ``Rule``."""
        self.act("rules", action=action, **values)

    def clear_rules(self) -> None:
        """Deliver new messages normally; held ones stay held."""
        self.act("rules/clear")

    def messages(self, subject: str = "") -> list[dict[str, Any]]:
        """Return the messages, oldest first: all, or those about one object."""
        found: list[dict[str, Any]] = self.act("messages")
        return [item for item in found if not subject or item["subject"] == subject]

    def attempts(self, subject: str = "") -> list[dict[str, Any]]:
        """Return the delivery attempts with their answers: all, or those about one object."""
        found: list[dict[str, Any]] = self.act("attempts")
        return [item for item in found if not subject or item["subject"] == subject]

    def signed(self, message_id: str) -> Signed:
        """Return a message's request, freshly signed, for a test that sends it itself."""
        return _signed(self.act("messages/signed", id=message_id))

    def deliver(self, message_id: str, copies: int = 1) -> list[dict[str, Any]]:
        """Send ``copies`` of a message concurrently, without retries. Returns the attempts."""
        found: list[dict[str, Any]] = self.act("messages/deliver", id=message_id, copies=copies)
        return found

    def release(self, order: str | Sequence[str] = "sent", seed: int = 0) -> list[dict[str, Any]]:
        """Send held messages one by one: as "sent", "reversed", "shuffled", or by message ids."""
        asked = order if isinstance(order, str) else list(order)
        found: list[dict[str, Any]] = self.act("messages/release", order=asked, seed=seed)
        return found

    def wait_until_quiet(self, timeout_seconds: float = 20.0) -> None:
        """Wait until no message is in delivery or waiting for a retry."""
        process.wait_until(lambda: self.act("active") == 0, timeout_seconds, "quiet webhooks")

    def forged(self, kind: str, **values: Any) -> Signed:
        """Return a forged webhook request, for a test that sends it itself."""
        return _signed(self.act("forged", kind=kind, **values))

    def forge(self, kind: str, **values: Any) -> dict[str, Any]:
        """Send a forged webhook to the endpoint; return its ``status`` and ``answer``."""
        sent: dict[str, Any] = self.act("forge", kind=kind, **values)
        return sent

    def act(self, name: str, **values: Any) -> Any:
        """Call a control route. Raises SandboxError with the reason if it is refused."""
        data = orjson.dumps(values)
        answer = self._http.request("POST", f"{self.url}/__sim/{name}", body=data)
        value = orjson.loads(answer.data) if answer.data else None
        if answer.status != 200:
            raise SandboxError(f"{name}: {value}")
        return value

    def _end(self) -> None:
        if self._process is not None:
            self.resume()
            process.stop(self._process, (signal.SIGTERM, 5.0))
            self._process = None


def _port_of_before(port_file: Path) -> int:
    """Return the previous run's port if it is free, so that open pages still work, else 0."""
    try:
        port = int(port_file.read_text())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, ValueError, OverflowError):
        return 0
    return port


def _signed(value: dict[str, Any]) -> Signed:
    return Signed(value["headers"], value["body"].encode("latin-1"))
