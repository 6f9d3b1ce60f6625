"""PostgreSQL stopped or killed under load: new requests get 503, running ones settle later."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sandbox.process import wait_until
from tests.support.load import Load, Reply, ask
from tests.support.machines import KINDS
from tests.support.process_stack import ProcessStack, ready, running, say, until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(480)]

LONG = "tokens=240 delay_ms=50"
SHORT = "tokens=20 delay_ms=5"


def _stop(stack: ProcessStack) -> None:
    stack.shut_postgres_down()


def _kill(stack: ProcessStack) -> None:
    stack.postgres.kill()


def goes_on(reply: Reply, chunks: int) -> bool:
    """Return whether a stream has brought more than so many chunks; fail if it has broken off."""
    assert not reply.ended_at or reply.end == "done", reply
    return reply.chunks > chunks + 40 or reply.end == "done"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("goes", [_stop, pytest.param(_kill, marks=pytest.mark.exhaustive)])
def test_postgres_goes_under_load(
    goes: Callable[[ProcessStack], None], kind: type[ProcessStack], tmp_path: Path
) -> None:
    with running(kind(tmp_path / "stack")) as stack:
        stack.start_background()
        gateway = stack.site(workers=2)
        account = stack.books.account(paid_tokens=1_000_000)
        with Load(24) as load:
            streams = [load.start(gateway.port, account.key, LONG) for _ in range(8)]
            for number in range(6):
                load.repeat(gateway.port, account.key, SHORT, stream=number % 2 == 0)
            wait_until(lambda: all(reply.chunks > 60 for reply in streams), 30, "streams")
            wait_until(lambda: len(load.sent("done")) > 20, 30, "short requests")

            goes(stack)
            before = {reply.tag: reply.chunks for reply in streams}
            wait_until(lambda: len(load.sent("error")) > 10, 30, "refused requests")
            assert ready(gateway.url) == 503
            # Streams do not wait for PostgreSQL; some have ended by now if stopping it took long.
            wait_until(
                lambda: all(goes_on(reply, before[reply.tag]) for reply in streams),
                30,
                "streams that go on",
            )
            stack.postgres.start()
            back = until(lambda: ready(gateway.url) == 200, "/health/ready", 30)
            back_at = time.monotonic()
            done = len(load.sent("done"))
            wait_until(lambda: len(load.sent("done")) > done + 20, 30, "requests again")
            replies = load.finish()

        settled = until(lambda: stack.books.open_holds() == 0, "no open hold", 90)
        for reply in streams:
            assert reply.end == "done"
            assert reply.finish_reason == "stop"
            assert reply.usage is not None
            assert reply.usage["completion_tokens"] == 240
        errors = load.sent("error")
        assert {(reply.status, reply.code) for reply in errors} == {(503, "service_unavailable")}
        assert {reply.end for reply in replies} == {"done", "error"}
        stack.check_charges(replies)
        stack.check_books()
        slowest = max(reply.seconds for reply in errors)
        late = [reply for reply in errors if reply.started_at > back_at]
        say(
            f"{len(replies)} requests, {len(errors)} times 503 (slowest {slowest:.1f} s,"
            f" {len(late)} of them after its return), ready"
            f" {back:.1f} s after the start, no open hold {settled:.0f} s after the last request"
        )


def test_a_hold_that_postgres_lost_is_charged_all_the_same(tmp_path: Path) -> None:
    with running(ProcessStack(tmp_path / "stack")) as stack:
        gateway = stack.gateway()
        account = stack.books.account(paid_tokens=100_000)
        stack.books.rows("CHECKPOINT")
        # Without the WAL writer, asynchronous commits do not reach the disk.
        _child(stack, "walwriter").suspend()
        with Load(1) as load:
            reply = load.start(gateway.port, account.key, "tokens=160 delay_ms=50")
            wait_until(lambda: reply.chunks > 5, 20, "a stream")
            assert stack.books.open_holds() == 1
            stack.books.close()
            stack.postgres.kill()
            stack.postgres.start()
            lost = stack.books.rows("SELECT 1 FROM holds") == []
            # The hold is placed again so that no other request can spend these tokens.
            wait_until(lambda: stack.books.open_holds() == 1, 20, "the hold, placed again")
            load.finish()

        assert lost
        until(lambda: len(stack.events()) == 1, "a late settlement", 30)
        _check_whole(reply, 160)
        stack.check_charges([reply])
        stack.check_books()


def _check_whole(reply: Reply, tokens: int) -> None:
    assert reply.end == "done"
    assert reply.finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage["completion_tokens"] == tokens


def _child(stack: ProcessStack, title: str) -> psutil.Process:
    [found] = [
        child
        for child in psutil.Process(stack.postgres.pid).children()
        if title in " ".join(child.cmdline())
    ]
    return found


def test_a_restart_without_traffic_costs_a_worker_one_request(tmp_path: Path) -> None:
    with running(ProcessStack(tmp_path / "stack")) as stack:
        gateway = stack.gateway()
        account = stack.books.account(paid_tokens=100_000)
        with Load(24) as load:
            for _ in range(48):
                load.start(gateway.port, account.key, SHORT)
            first = load.finish()
        stack.postgres.restart()
        later = [ask(gateway.port, account.key, SHORT) for _ in range(20)]

        # At most the first request fails; it discards every connection from before the restart.
        assert [reply.status for reply in later[1:]] == [200] * 19
        stack.check_charges([*first, *later])
        stack.check_books()
