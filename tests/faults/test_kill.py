"""Workers killed under load: their holds are settled at the last checkpoint, never above it."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from sandbox.process import wait_until
from tests.run import EXHAUSTIVE
from tests.support.load import Load
from tests.support.machines import KINDS
from tests.support.process_stack import ProcessStack, Site, running, say, until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

KILLS = 20 if EXHAUSTIVE else 8
WORKERS = 4
STREAMS = 12
TOKENS_PER_SECOND = 20
# Requests that spend most of their time in prefill: a worker killed then leaves checkpoints of a
# prompt whose client has not even received a status.
PREFILLS = 4
PREFILL = "prefill_ms=6000 progress=12 tokens=2"
# A checkpoint every 3 s, checked once a second, plus slack for a busy machine.
UNCHARGED_SECONDS = 5.5


@pytest.mark.parametrize("kind", KINDS)
def test_workers_killed_again_and_again(kind: type[ProcessStack], tmp_path: Path) -> None:
    with running(kind(tmp_path / "stack")) as stack:
        stack.start_background()
        gateway = stack.site(workers=WORKERS)
        accounts = [stack.books.account(paid_tokens=1_000_000) for _ in range(3)]
        directives = f"tokens=300 delay_ms={1000 // TOKENS_PER_SECOND}"
        stack.wait_for_sweeps()

        with Load(STREAMS + PREFILLS) as load:
            for number in range(STREAMS):
                load.repeat(gateway.port, accounts[number % len(accounts)].key, directives)
            for number in range(PREFILLS):
                load.repeat(gateway.port, accounts[number % len(accounts)].key, PREFILL)
            for _ in range(KILLS):
                # A worker that has just started has no streams to lose yet.
                wait_until(lambda: _busiest(stack, gateway)[1] >= 2, 30, "a worker with streams")
                victim, _ = _busiest(stack, gateway)
                before = len(load.sent("cut"))
                os.kill(victim, signal.SIGKILL)
                wait_until(partial(_replaced, gateway, victim), 20, "a new worker")
                wait_until(partial(_more_cut, load, before), 20, "streams that were cut")
                # Long enough for checkpoints to fall before some kills, and after others.
                time.sleep(1.0)
            killed_at = time.monotonic()
            replies = load.finish()

        until(lambda: stack.books.open_holds() == 0, "no open hold", 90)
        seconds = time.monotonic() - killed_at
        assert seconds < 90

        cut = [reply for reply in replies if reply.end == "cut"]
        assert len(cut) >= KILLS
        assert {reply.end for reply in replies} <= {"done", "cut", "refused"}
        stack.check_charges([reply for reply in replies if reply.request_id], exact=False)
        records, events = stack.records(), stack.events()
        lost = []
        for reply in replies:
            event = events.get(reply.request_id)
            if reply.end == "done":
                assert event is not None
                assert reply.usage is not None
                assert event["charged_tokens"] == reply.usage["total_tokens"]
            elif reply.tag in records:
                counted = records[reply.tag]["completion_tokens"]
                charged = event["completion_tokens"] if event is not None else 0
                lost.append(counted - charged)
                assert event is None or event["outcome"] in {"recovered", "completed"}
        assert max(lost) <= UNCHARGED_SECONDS * TOKENS_PER_SECOND
        stack.check_books()
        say(
            f"{len(replies)} streams, {len(cut)} cut; uncharged tokens at {TOKENS_PER_SECOND}/s:"
            f" mean {sum(lost) / len(lost):.0f}, most {max(lost)};"
            f" no open hold {seconds:.0f} s after the last kill"
        )


def _busiest(stack: ProcessStack, gateway: Site) -> tuple[int, int]:
    """Return the pid of the worker with the most streams, and its number of streams."""
    streams = {pid: stack.streams_of(pid) for pid in gateway.worker_pids()}
    return max(streams.items(), key=lambda item: item[1])


def _replaced(gateway: Site, victim: int) -> bool:
    workers = gateway.worker_pids()
    return victim not in workers and len(workers) == WORKERS


def _more_cut(load: Load, before: int) -> bool:
    return len(load.sent("cut")) > before
