"""Gateways in front of simulated model servers, with recording proxies, for programs under test."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sandbox.llama import SimulatedLlama
from sandbox.process import SandboxError
from tests.agents.recorder import Recorder
from tests.agents.running import Ended
from tests.support.servers import Servers, WorkerRedis
from tests.support.stack import Stack

# Smaller than the prompt of `overflow`, and than the instructions of most agents.
SMALL_CONTEXT_TOKENS = 4096
STARTS = 4

ServerT = TypeVar("ServerT")


@dataclass(frozen=True)
class Backend:
    """A gateway with its simulator, behind a recorder."""

    recorder: Recorder
    simulator: SimulatedLlama


class World:
    """All backends of a run, each started when it is first used.

    tools    a gateway with function tools in the Responses API
    text     one with the default profile, `text`
    small    a model with a small context window
    single   a gateway that runs one request per account at a time
    """

    VARIABLES: dict[str, dict[str, object]] = {
        "tools": {"RESPONSES_PROFILE": "tools"},
        "text": {"RESPONSES_PROFILE": "text"},
        "small": {"RESPONSES_PROFILE": "tools"},
        "single": {"RESPONSES_PROFILE": "tools", "MAX_CONCURRENT_REQUESTS": 1},
    }

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.books = stack.books
        self.outputs: list[Ended] = []
        self._backends: dict[str, Backend] = {}
        self._simulators: dict[int, SimulatedLlama] = {}

    def used(self) -> list[Backend]:
        """Return the backends that have been started."""
        return list(self._backends.values())

    def backend(self, name: str) -> Backend:
        """Return a backend by name, and clear all records, faults and scripts."""
        if name not in self._backends:
            # The instructions of the largest agents take 40,000 of the simulator's tokens.
            context = SMALL_CONTEXT_TOKENS if name == "small" else 131072
            if context not in self._simulators:
                simulator = _patiently(lambda: self.stack.simulated_llama(ctx=context, slots=8))
                self._simulators[context] = simulator
            simulator = self._simulators[context]
            url, variables = simulator.url, self.VARIABLES[name]
            gateway = _patiently(lambda: self.stack.gateway(url, **variables))
            recorder = self.stack.run(Recorder(gateway.url))
            self._backends[name] = Backend(recorder, simulator)
        for backend in self._backends.values():
            backend.recorder.clear()
            backend.simulator.clear()
        return self._backends[name]


def _patiently(start: Callable[[], ServerT]) -> ServerT:
    """Start a server; try again if a busy machine does not start it in time."""
    for _ in range(STARTS - 1):
        with suppress(SandboxError):
            return start()
    return start()


@contextmanager
def world() -> Iterator[World]:
    """Start PostgreSQL and Redis of its own; everything ends with the block."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="promptly-agents-") as name:
        folder = Path(name)
        # PostgreSQL runs as another user if we are root.
        folder.chmod(0o755)
        servers = Servers()
        redis = WorkerRedis(0, folder / "redis")
        try:
            with (
                servers.databases.temporary(servers.template) as url,
                Stack(
                    folder,
                    database_url=url,
                    redis_url=redis.url,
                    KEEPALIVE_COMMENT_SECONDS=1,
                    # Not the default: it has the digits 503, and some programs retry an error
                    # whose text has them, such as a 402 with the link for topping up.
                    BASE_URL="http://127.0.0.1:8610",
                ) as stack,
            ):
                yield World(stack)
        finally:
            redis.stop()
            servers.stop()
