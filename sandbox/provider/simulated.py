"""The base of both stand-ins' objects: Stripe's account and BTCPay's store."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from sandbox.provider.sender import Sender


class Simulated(ABC):
    """Everything that one API key can access.

    To change objects, hold ``lock`` from the first read to the last event.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.sender: Sender | None = None
        self.changed: Callable[[], None] = lambda: None  # called after changes with an event
        self.base_url = ""
        self.advanced_seconds = 0

    def now(self) -> int:
        """Return the time of the simulated clock, in Unix seconds."""
        return int(time.time()) + self.advanced_seconds

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the state that outlives the process; deliveries do not."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state; an empty one forgets everything."""
