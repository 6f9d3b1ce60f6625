"""Gateways in front of simulated model servers, with recording proxies, for programs under test."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.llama import SimulatedLlama
from tests.agents.recorder import Recorder
from tests.agents.running import Ended
from tests.support.servers import Servers, WorkerRedis
from tests.support.stack import Stack

# Smaller than the prompt of `overflow`, and than the instructions of most agents.
SMALL_CONTEXT_TOKENS = 4096


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
                self._simulators[context] = self.stack.simulated_llama(ctx=context, slots=8)
            simulator = self._simulators[context]
            gateway = self.stack.gateway(simulator.url, **self.VARIABLES[name])
            recorder = self.stack.run(Recorder(gateway.url))
            self._backends[name] = Backend(recorder, simulator)
        for backend in self._backends.values():
            backend.recorder.clear()
            backend.simulator.clear()
        return self._backends[name]


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
                    folder, database_url=url, redis_url=redis.url, KEEPALIVE_COMMENT_SECONDS=1
                ) as stack,
            ):
                yield World(stack)
        finally:
            redis.stop()
            servers.stop()
