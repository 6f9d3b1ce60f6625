"""Two gateway machines and what they share, each in a network namespace of its own.

The store has PostgreSQL behind PgBouncer, Redis, and the stand-ins for the world: model server,
mail, payment providers. The test itself runs there. Each machine has a gateway, a Celery worker
and beat, and a cable to each of PgBouncer, Redis and the world, and one to the other machine.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.front import Front
from tests.support.network import Cable, Namespace
from tests.support.pgbouncer import PgBouncer
from tests.support.process_stack import ProcessStack
from tests.support.servers import Gateway

# From 198.18.0.0/15, the addresses for benchmarks (RFC 2544): 198.18.0.x is the store,
# 198.18.1.x the first machine, 198.18.2.x the second one.
DATABASE, REDIS, WORLD, PEER = "database", "redis", "world", "peer"
STORE = {DATABASE: "198.18.0.1", REDIS: "198.18.0.2", WORLD: "198.18.0.3"}
REDIS_PORT = 6379
GATEWAY_PORT = 8503


class Machine:
    """A gateway machine; `cables` are its connections by name."""

    def __init__(self, namespace: Namespace, number: int) -> None:
        self.name = namespace.name
        self.namespace = namespace
        self.cables: dict[str, Cable] = {}
        self.gateway: Gateway | None = None
        self._number = number

    def address(self, network: str) -> str:
        """Return the machine's address in the network of this name."""
        return f"198.18.{self._number}.{(DATABASE, REDIS, WORLD, PEER).index(network) + 1}"

    @contextmanager
    def cut_off(self, *names: str) -> Iterator[None]:
        """Unplug these cables for the block."""
        for name in names:
            self.cables[name].cut()
        try:
            yield
        finally:
            for name in names:
                self.cables[name].plug_in()


class Fleet:
    """The gateways of all machines behind one address."""

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        self._gateways = gateways
        self.front = Front()
        self.front.route_to(*gateways)

    @property
    def port(self) -> int:
        return self.front.port

    @property
    def url(self) -> str:
        return self.front.url

    def worker_pids(self) -> list[int]:
        """Return the process ids of all running workers."""
        return [pid for gateway in self._gateways for pid in gateway.worker_pids()]


class Machines(ProcessStack):
    """A store and two machines; options as for ProcessStack."""

    def __init__(self, directory: Path, **options: Any) -> None:
        anywhere = "0.0.0.0"
        redis = {"port": str(REDIS_PORT), "bind": anywhere, "protected-mode": "no"}
        super().__init__(directory, redis=redis, host=anywhere, **options)
        self._store = Namespace(directory, "store")
        self.machines = [
            Machine(Namespace(directory, name), number) for number, name in enumerate("ab", start=1)
        ]
        self.pgbouncer = PgBouncer(directory / "pgbouncer", self.postgres, "promptly")

    def start(self) -> Self:
        """Start the store, and connect the machines, whose gateways follow with `site`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.run(self._store)
        self._ends.enter_context(self._store.entered())
        for machine in self.machines:
            self.run(machine.namespace)
        self._connect()
        super().start()
        self.run(self.pgbouncer)
        self.variables["LLAMA_BASE_URL"] = self.seen_from_gateways(self.llama.url)
        self.variables["SMTP_HOST"] = STORE[WORLD]
        return self

    def _connect(self) -> None:
        first, second = self.machines
        for machine in self.machines:
            for network, address in STORE.items():
                ends = (address, machine.address(network))
                machine.cables[network] = Cable(network, self._store, machine.namespace, ends)
        ends = (first.address(PEER), second.address(PEER))
        first.cables[PEER] = second.cables[PEER] = Cable(
            PEER, first.namespace, second.namespace, ends
        )

    def seen_from_gateways(self, url: str) -> str:
        """Return a stand-in's URL as the machines reach it."""
        return url.replace("//127.0.0.1:", f"//{STORE[WORLD]}:")

    def site(self, workers: int = 2, **variables: object) -> Fleet:
        """Start a gateway on each machine, which share this number of workers."""
        gateways = []
        for machine in self.machines:
            machine.gateway = self._make_gateway_on(
                machine, workers=max(1, workers // len(self.machines)), **variables
            )
            gateways.append(machine.gateway.start())
        fleet = Fleet(gateways)
        self._ends.callback(fleet.front.close)
        return fleet

    def start_background(self) -> None:
        """Start a Celery worker and beat on each machine; a second beat is harmless."""
        for machine in self.machines:
            environment = self._make_gateway_on(machine).environment
            enter = machine.namespace.enter
            self._start_background(f"celery-{machine.name}", environment, enter)

    def _make_gateway_on(self, machine: Machine, **options: Any) -> Gateway:
        addresses: dict[str, Any] = {
            "DATABASE_URL": self.pgbouncer.url(STORE[DATABASE]),
            "REDIS_URL": f"redis://{STORE[REDIS]}:{REDIS_PORT}/0",
        }
        return self.make_gateway(
            port=GATEWAY_PORT,
            host=machine.address(WORLD),
            enter=machine.namespace.enter,
            **addresses,
            **options,
        )


MARKS = [
    pytest.mark.exhaustive,
    pytest.mark.as_root,
    pytest.mark.network_namespaces,
    pytest.mark.pgbouncer,
]
# For tests that run on one machine, and with all exhaustive variants on two as well.
KINDS = [
    pytest.param(ProcessStack, id="one machine"),
    pytest.param(Machines, id="two machines", marks=MARKS),
]
