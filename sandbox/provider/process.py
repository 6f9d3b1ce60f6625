"""A provider's stand-in as a child process of a test or of the supervisor."""

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import orjson
import urllib3

from sandbox import process
from sandbox.child_server import LOOPBACK, ChildServer
from sandbox.process import SandboxError
from sandbox.provider.messages import Signed


class SimulatedProvider(ChildServer):
    """Base class of the simulated Stripe and BTCPay Server.

    With ``persistent`` the state outlives the process in ``directory``, and so does the port unless
    another process has taken it. Webhooks go to ``webhook_url`` once it is set.
    """

    def __init__(
        self,
        directory: Path | None,
        options: Sequence[str],
        keys: Mapping[str, str],
        *,
        port: int = 0,
        host: str = LOOPBACK,
        persistent: bool = False,
        webhook_url: str = "",
        retry_seconds: Sequence[float] = (0.2, 0.5, 1.0, 2.0),
        log: Path | None = None,
    ) -> None:
        super().__init__(
            directory, options, port=port, host=host, env={**os.environ, **keys}, log=log
        )
        self._options += ["--retry-seconds", ",".join(str(wait) for wait in retry_seconds)]
        if webhook_url:
            self._options += ["--webhook-url", webhook_url]
        self._persistent = persistent
        if persistent:
            self._options += ["--state-file", str(self.directory / "state.json")]
        self._http = urllib3.PoolManager(
            # Used by several threads.
            maxsize=4,
            retries=urllib3.Retry(connect=3, read=0, redirect=0),
            timeout=60.0,
        )

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start the server and return it once it listens. Raises SandboxError otherwise."""
        if self._persistent and self.port == 0:
            self.port = _port_of_before(self.port_file)
        return super().start()

    def stop(self) -> None:
        super().stop()
        self._http.clear()

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
