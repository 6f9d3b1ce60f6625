"""The servers of a measurement at scale, and how thorough it is."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from bench.cases import Watch
from bench.system import Stores, System
from bench.targets import Target, start_gateway


@dataclass
class Lab:
    """Starts gateways, each with stores of its own; they stop when ``stack`` is closed."""

    system: System
    stack: ExitStack
    rounds: int
    quick: bool
    largest: int | None
    """Accounts of the largest database; None for the usual one."""
    watch: Watch
    say: Callable[[str], None]

    def seconds(self, full: float, quick: float) -> float:
        """Return the length of a run, shorter with ``quick``."""
        return quick if self.quick else full

    def stores(self, name: str) -> Stores:
        """Return an empty database and a Redis, dropped at the end."""
        return self.stack.enter_context(self.system.new_stores(name))

    def start(self, name: str, stores: Stores | None = None, workers: int = 1) -> Target:
        """Start a gateway."""
        stores = stores or self.stores(name)
        target = start_gateway(self.system, name, stores=stores, workers=workers)
        self.stack.callback(target.service.stop)
        return target
