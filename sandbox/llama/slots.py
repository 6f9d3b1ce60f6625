"""The slots: which one a request gets, which prompt it finds there, and who waits.

The rules are llama-server's. A request that names a slot waits for it; any other gets the idle slot
whose prompt is similar to its own, or else the one that was used least recently. Requests that have
to wait are deferred. A slot that becomes idle takes a deferred request that names it, or the first
one; if that names a busy slot, it is deferred again, and nobody else is asked.
"""

from collections import deque
from dataclasses import dataclass

from sandbox.llama.http import Connection
from sandbox.llama.prompt_cache import KEEP, SIMILARITY, Kept, Prompt, PromptMemory
from sandbox.llama.records import Record, Records


@dataclass(slots=True, eq=False)
class Slot:
    """A slot, the request that runs in it, and the prompt that it has processed last."""

    id: int
    record: Record | None = None
    kept: Kept = Kept()
    used_at: int = -1
    task: int = -1


@dataclass(slots=True, eq=False)
class Task:
    """A request for a slot; `named` is its `id_slot`, or None for any.

    `cached` is how many tokens of its prompt the slot has; without `reuses` none are used.
    """

    connection: Connection
    record: Record
    prompt: Prompt = Prompt()
    named: int | None = None
    reuses: bool = True
    cached: int = 0


class Slots:
    """A fixed number of slots for running requests."""

    def __init__(self, count: int, memory: PromptMemory, records: Records) -> None:
        self.all = [Slot(number) for number in range(count)]
        self._memory = memory
        self._records = records
        self._started = 0
        self._deferred: deque[Task] = deque()

    @property
    def processing(self) -> int:
        """Number of running requests."""
        return sum(slot.record is not None for slot in self.all)

    @property
    def deferred(self) -> int:
        """Number of waiting requests."""
        return len(self._deferred)

    async def enter(self, task: Task) -> bool:
        """Wait for a slot without sending anything. False if the client disconnected first."""
        named = self._named(task)
        if named is not None:
            task.record.named_slot = named.id
            task.record.named_busy = named.record is not None
            self._records.totals.named_busy += task.record.named_busy
        if self._start(task):
            return True
        self._deferred.append(task)
        while task in self._deferred and not task.connection.gone:
            await task.connection.wait_for_turn()
        if not task.connection.gone:
            return True
        if task in self._deferred:
            self._deferred.remove(task)
        else:
            self.leave(task.record, None)
        return False

    def leave(self, record: Record, processed: Prompt | None) -> None:
        """Free the slot and hand it on; what was processed stays in it, None changes nothing."""
        slot = next(slot for slot in self.all if slot.record is record)
        slot.record = None
        if processed is not None:
            slot.kept = Kept(processed, record.owner)
        slot.used_at = self._started
        if not self._deferred:
            return
        waiting = next(
            (task for task in self._deferred if self._named(task) is slot), self._deferred[0]
        )
        self._deferred.remove(waiting)
        if self._start(waiting):
            waiting.connection.wake()
        else:
            self._deferred.append(waiting)

    def forget_prompts(self) -> None:
        """Empty all idle slots, and the memory of those that they have lost."""
        self._memory.clear()
        for slot in self.all:
            slot.kept = Kept()

    def _start(self, task: Task) -> bool:
        """Start a request in a slot; False if it has to wait."""
        slot = self._named(task) or self._similar(task.prompt) or self._least_recently_used()
        if slot is None or slot.record is not None:
            return False
        kept = slot.kept
        if task.prompt.text and kept.prompt.shared(task.prompt) < KEEP * kept.prompt.tokens:
            kept = self._memory.exchange(kept, task.prompt)
        if task.reuses:
            # The last token is always processed: the answer begins with its result.
            task.cached = min(kept.prompt.shared(task.prompt), max(task.prompt.tokens - 1, 0))
        record = task.record
        record.slot = slot.id
        record.cached_prompt_tokens = task.cached
        if task.cached and kept.owner != record.owner:
            record.reused_from = kept.owner
            self._records.totals.foreign_reuse += 1
        slot.record = record
        slot.task = self._started
        self._started += 1
        return True

    def _named(self, task: Task) -> Slot | None:
        return None if task.named is None else self.all[task.named % len(self.all)]

    def _similar(self, prompt: Prompt) -> Slot | None:
        best, most = None, SIMILARITY * prompt.tokens
        for slot in self.all:
            if slot.record is None and slot.kept.prompt.text:
                shared = slot.kept.prompt.shared(prompt)
                if shared > most:
                    best, most = slot, shared
        return best

    def _least_recently_used(self) -> Slot | None:
        # Of several the last, so that a new server fills its slots from the end.
        idle = [slot for slot in reversed(self.all) if slot.record is None]
        return min(idle, key=lambda slot: slot.used_at, default=None)
