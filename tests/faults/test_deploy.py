"""Stops under load: SIGTERM drains, SIGQUIT ends at once; both settle every request.

tests/deploy has deploys in which two gateways overlap.
"""

import http.client
import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from sandbox.process import wait_until
from tests.support.load import Load, Reply, ask
from tests.support.process_stack import ProcessStack, ready, running, say, until
from tests.support.sockets import queued

pytestmark = [pytest.mark.alone, pytest.mark.timeout(360)]

DRAIN_SECONDS = 2
SHORT = "tokens=30 delay_ms=30"
LONG = "tokens=2000 delay_ms=30"


def test_a_deploy_loses_no_charge(tmp_path: Path) -> None:
    with running(ProcessStack(tmp_path / "stack", DRAIN_SECONDS=DRAIN_SECONDS)) as stack:
        old = stack.gateway(workers=2)
        account = stack.books.account(paid_tokens=1_000_000)
        with Load(32) as load:
            long = [load.start(old.port, account.key, LONG) for _ in range(6)]
            for number in range(6):
                load.repeat(old.port, account.key, SHORT, stream=number % 2 == 0)
            wait_until(lambda: all(reply.chunks > 20 for reply in long), 30, "long streams")
            wait_until(lambda: len(load.sent("done")) > 12, 30, "short requests")
            short = [load.start(old.port, account.key, SHORT) for _ in range(6)]
            wait_until(lambda: all(reply.chunks for reply in short), 10, "short streams")

            terminated_at = time.monotonic()
            old.terminate()
            new = stack.make_gateway(workers=2, port=old.port).start()
            taken = time.monotonic() - terminated_at
            wait_until(lambda: not old.is_running, 20, "the old one's end")
            stopped = time.monotonic() - terminated_at
            # Everything was settled before the old process exited.
            ended = [reply.request_id for reply in [*long, *short]]
            events = stack.events()
            assert [events[request_id]["outcome"] for request_id in ended] == (
                ["shutdown"] * len(long) + ["completed"] * len(short)
            )
            wait_until(lambda: ready(new.url) == 200, 30, "/health/ready")
            done = len(load.sent("done"))
            wait_until(lambda: len(load.sent("done")) > done + 12, 30, "requests again")
            replies = load.finish()

        for reply in long:
            assert (reply.end, reply.code) == ("error", "service_unavailable")
            assert reply.ended_at - terminated_at >= DRAIN_SECONDS
        for reply in short:
            assert (reply.end, reply.finish_reason) == ("done", "stop")
        until(lambda: stack.books.open_holds() == 0, "no open hold", 10)
        # No stream was cut; requests before the new process listened were refused a connection.
        assert {reply.end for reply in replies} <= {"done", "error", "refused"}
        stack.check_charges([reply for reply in replies if reply.request_id], exact=False)
        records = stack.records()
        for reply in long:
            record, event = records[reply.tag], stack.events()[reply.request_id]
            # Tokens in flight when upstream was stopped are charged too.
            assert event["charged_tokens"] == record["prompt_tokens"] + record["completion_tokens"]
        stack.check_books()
        refused = [reply for reply in replies if reply.end == "refused"]
        say(
            f"new process answers after {taken:.1f} s, old one gone after {stopped:.1f} s;"
            f" {len(refused)} of {len(replies)} requests"
            " found nobody listening"
        )


def test_whoever_waits_to_be_accepted_is_answered(tmp_path: Path) -> None:
    """Workers frozen at SIGTERM still answer every connection in the accept queue."""
    with running(ProcessStack(tmp_path / "stack")) as stack:
        gateway = stack.gateway(workers=2)
        account = stack.books.account()
        workers = [psutil.Process(pid) for pid in gateway.worker_pids()]
        for worker in workers:
            worker.suspend()
        frozen_at = time.monotonic()
        try:
            with Load(20) as load:
                for _ in range(20):
                    load.start(gateway.port, account.key, SHORT)
                wait_until(lambda: queued(gateway.port) == 20, 20, "connections in the queue")
                gateway.terminate()
                wait_until(lambda: all(map(_told_to_go, workers)), 20, "SIGTERM")
                # A worker checks once a second whether to stop; after 1.5 s that check is overdue.
                wait_until(lambda: time.monotonic() - frozen_at > 1.5, 10, "a second")
                for worker in workers:
                    worker.resume()
                replies = load.finish()
        finally:
            for worker in workers:
                if worker.is_running():
                    worker.resume()
        assert [reply.end for reply in replies] == ["done"] * 20
        stack.check_charges(replies)


def _told_to_go(worker: psutil.Process) -> bool:
    """Return whether SIGTERM is pending for a suspended process."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    [pending] = [line for line in status.splitlines() if line.startswith("ShdPnd")]
    return bool(int(pending.split()[1], 16) & 1 << signal.SIGTERM - 1)


def test_a_deploy_that_finds_nothing_to_do_does_not_wait(tmp_path: Path) -> None:
    with running(ProcessStack(tmp_path / "stack", DRAIN_SECONDS=300)) as stack:
        gateway = stack.gateway(workers=2)
        account = stack.books.account()
        assert ask(gateway.port, account.key, SHORT).end == "done"
        gateway.terminate()
        wait_until(lambda: not gateway.is_running, 60, "its end")
        stack.check_books()


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGTERM, signal.SIGQUIT],
        pytest.param([signal.SIGQUIT], marks=pytest.mark.exhaustive),
    ],
)
def test_a_stop_for_good_ends_and_settles_streams(
    signals: list[signal.Signals], tmp_path: Path
) -> None:
    with running(ProcessStack(tmp_path / "stack", DRAIN_SECONDS=300)) as stack:
        gateway = stack.gateway(workers=2)
        account = stack.books.account()
        with Load(6) as load:
            streams = [load.start(gateway.port, account.key, LONG) for _ in range(6)]
            wait_until(lambda: all(reply.chunks > 5 for reply in streams), 30, "streams")
            for number in signals:
                os.kill(gateway.pid, number)
                if number == signal.SIGTERM:
                    wait_until(lambda: _refuses(gateway.port), 20, "no new connections")
                    _wait_for_chunks(streams)
            wait_until(lambda: not gateway.is_running, 20, "its end")
            load.finish()
        for reply in streams:
            assert (reply.end, reply.code) == ("error", "service_unavailable")
        assert {event["outcome"] for event in stack.events().values()} == {"shutdown"}
        stack.check_charges(streams)
        stack.check_books()


def test_a_drain_answers_on_open_connections(tmp_path: Path) -> None:
    """An idle connection in a client's pool carries one more request, marked as its last."""
    with running(ProcessStack(tmp_path / "stack", DRAIN_SECONDS=60)) as stack:
        gateway = stack.gateway(workers=2)
        pooled = [http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20) for _ in "ab"]
        for connection in pooled:
            assert _health(connection) == (200, "keep-alive")
        gateway.terminate()
        # Longer than a worker's checks, shorter than the 15 s that it gives to idle connections.
        idle_at = time.monotonic()
        wait_until(lambda: _refuses(gateway.port), 20, "no new connections")
        wait_until(lambda: time.monotonic() - idle_at > 2.5, 20, "an idle while")
        assert [_health(connection) for connection in pooled] == [(200, "close")] * 2
        wait_until(lambda: not gateway.is_running, 20, "its end")


def _wait_for_chunks(streams: list[Reply]) -> None:
    """Wait until every stream has gone on for a while."""
    wanted = [(reply, reply.chunks + 20) for reply in streams]
    wait_until(lambda: all(reply.chunks >= least for reply, least in wanted), 30, "chunks")


def _health(connection: http.client.HTTPConnection) -> tuple[int, str | None]:
    connection.request("GET", "/health")
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("connection")


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False
