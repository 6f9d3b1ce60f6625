"""The slots and their unbounded queue: first come, first served."""

from collections import deque

from sandbox.llama.http import Connection
from sandbox.llama.records import Record


class Slots:
    """A fixed number of slots for running requests."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.running: list[Record | None] = [None] * count
        self.tasks = 0
        self._queue: deque[tuple[Connection, Record]] = deque()

    @property
    def processing(self) -> int:
        """Number of running requests."""
        return sum(record is not None for record in self.running)

    @property
    def deferred(self) -> int:
        """Number of waiting requests."""
        return len(self._queue)

    async def enter(self, connection: Connection, record: Record) -> bool:
        """Wait for a slot without sending anything. False if the client disconnected first."""
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
        """Free the slot and hand it to the first request in the queue."""
        self.running[self.running.index(record)] = None
        while self._queue and None in self.running:
            connection, waiting = self._queue.popleft()
            self._take(waiting)
            connection.wake()

    def _take(self, record: Record) -> None:
        self.running[self.running.index(None)] = record
        self.tasks += 1
