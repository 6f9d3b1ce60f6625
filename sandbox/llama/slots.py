"""The slots and the queue before them: first come, first served, without a limit."""

from collections import deque

from sandbox.llama.http import Connection
from sandbox.llama.records import Record


class Slots:
    """A fixed number of places for running requests."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.running: list[Record | None] = [None] * count
        self.tasks = 0
        self._queue: deque[tuple[Connection, Record]] = deque()

    @property
    def processing(self) -> int:
        """How many requests run."""
        return sum(record is not None for record in self.running)

    @property
    def deferred(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    async def enter(self, connection: Connection, record: Record) -> bool:
        """Wait for a slot; nothing is sent meanwhile. False if the client left before."""
        if None in self.running and not self._queue:
            self._take(record)
            return True
        entry = (connection, record)
        self._queue.append(entry)
        while record not in self.running and not connection.gone:
            await connection.wait_for_turn()
        if connection.gone:
            if record in self.running:
                self.leave(record)
            else:
                self._queue.remove(entry)
            return False
        return True

    def leave(self, record: Record) -> None:
        """Free the slot, and give it to the first in the queue."""
        self.running[self.running.index(record)] = None
        while self._queue and None in self.running:
            connection, waiting = self._queue.popleft()
            self._take(waiting)
            connection.wake()

    def _take(self, record: Record) -> None:
        self.running[self.running.index(None)] = record
        self.tasks += 1
