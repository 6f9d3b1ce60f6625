"""One machine cut off from PostgreSQL, from Redis, or from the other one, under load.

What each machine then does is documented in docs/operating/machines.md.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from sandbox.process import wait_until
from tests.support.load import Load, Reply, ask
from tests.support.machines import DATABASE, MARKS, PEER, REDIS, Machine, Machines
from tests.support.process_stack import ready, register, running, say, until
from tests.support.servers import Gateway

pytestmark = [*MARKS, pytest.mark.alone, pytest.mark.timeout(480)]

SHORT = "tokens=20 delay_ms=5"
# Ends while its machine is cut off.
MEDIUM = "tokens=300 delay_ms=50"
# Outlives the outage.
LONG = "tokens=1200 delay_ms=50"
# Longer than it takes until a hold without checkpoints counts as dead (30 s), and is recovered.
OUTAGE_SECONDS = 50
KEY_LIMIT = 30
# Of a request on the machine that is cut off: twice DATABASE_TIMEOUT_SECONDS, for a connection that
# is dead and a new one, and as much again on a busy machine.
REFUSED_SECONDS = 20

Outage = Callable[[Machine], AbstractContextManager[None]]


@contextmanager
def unplugged(machine: Machine) -> Iterator[None]:
    """No packet between the machine and PgBouncer."""
    with machine.cut_off(DATABASE):
        yield


@contextmanager
def answers_lost(machine: Machine) -> Iterator[None]:
    """The machine's statements take effect, but it does not hear of it."""
    cable = machine.cables[DATABASE]
    cable.lose_answers()
    try:
        yield
    finally:
        cable.deliver_answers()


@contextmanager
def alone_with_clients(machine: Machine) -> Iterator[None]:
    """Neither PgBouncer nor Redis, only the clients and the model server."""
    with machine.cut_off(DATABASE, REDIS):
        yield


def gateways(stack: Machines) -> tuple[Gateway, Gateway]:
    """Start both gateways and return them."""
    stack.site(workers=2)
    first, second = (machine.gateway for machine in stack.machines)
    assert first is not None and second is not None
    return first, second


def start(load: Load, gateway: Gateway, key: str, directives: str) -> Reply:
    return load.start(gateway.port, key, directives, host=gateway.host)


def answered(load: Load, gateway: Gateway, end: str) -> int:
    """Return how many repeated requests to a gateway ended this way."""
    return sum(reply.host == gateway.host for reply in load.sent(end))


@pytest.mark.parametrize("outage", [unplugged, answers_lost, alone_with_clients])
def test_a_machine_without_postgresql(outage: Outage, tmp_path: Path) -> None:
    # A hold that was recovered grows no more, so the first quantum has to cover the streams.
    with running(Machines(tmp_path / "stack", HOLD_QUANTUM_TOKENS=1200)) as stack:
        cut_off, other = gateways(stack)
        stack.start_background()
        machine = stack.machines[0]
        accounts = [stack.books.account(paid_tokens=1_000_000) for _ in range(2)]
        stack.wait_for_sweeps()
        with Load(24) as load:
            streams = {
                (gateway.host, directives): start(load, gateway, accounts[0].key, directives)
                for gateway in (cut_off, other)
                for directives in (MEDIUM, LONG)
            }
            for gateway in (cut_off, other):
                for number in range(2):
                    load.repeat(
                        *(gateway.port, accounts[1].key, SHORT),
                        stream=number == 0,
                        host=gateway.host,
                    )
            wait_until(lambda: all(reply.chunks > 60 for reply in streams.values()), 60, "streams")

            with outage(machine):
                away_at = time.monotonic()
                wait_until(lambda: answered(load, cut_off, "error") > 2, 60, "refused requests")
                assert ready(cut_off.url) == 503
                assert ready(other.url) == 200
                medium = streams[cut_off.host, MEDIUM]
                wait_until(lambda: bool(medium.ended_at), 60, "the medium stream's end")
                done = answered(load, other, "done")
                wait_until(
                    lambda: time.monotonic() > away_at + OUTAGE_SECONDS, 90, "the end of the outage"
                )
                assert answered(load, other, "done") > done + 20
            back = until(lambda: ready(cut_off.url) == 200, "/health/ready", 60)
            done = answered(load, cut_off, "done")
            wait_until(lambda: answered(load, cut_off, "done") > done + 10, 60, "requests again")
            wait_until(lambda: all(reply.ended_at for reply in streams.values()), 120, "streams")
            replies = load.finish()

        settled = until(lambda: stack.books.open_holds() == 0, "no open hold", 90)
        assert {reply.end for reply in streams.values()} == {"done"}
        assert {reply.finish_reason for reply in streams.values()} == {"stop"}
        errors = [reply for reply in replies if reply.end == "error"]
        assert {(reply.status, reply.code) for reply in errors} == {(503, "service_unavailable")}
        assert {reply.host for reply in errors} == {cut_off.host}
        slowest = max(reply.seconds for reply in errors)
        assert slowest < REFUSED_SECONDS
        until(lambda: _are_complete(stack, streams.values()), "the late settlements", 90)
        stack.check_charges(replies)
        stack.check_books()
        late = sum("hold recovered" in text for text in stack.log_texts().values())
        say(
            f"{len(replies)} requests, {len(errors)} times 503 (slowest {slowest:.1f} s), ready"
            f" {back:.1f} s after the outage, no open hold {settled:.0f} s after the last request;"
            f" {late} logs with recovered holds"
        )


def _are_complete(stack: Machines, replies: Iterable[Reply]) -> bool:
    events = stack.events()
    return all(events[reply.request_id]["outcome"] == "completed" for reply in replies)


def test_a_machine_without_redis(tmp_path: Path) -> None:
    with running(Machines(tmp_path / "stack", INFERENCE_USER_RATE_LIMIT=KEY_LIMIT)) as stack:
        cut_off, other = gateways(stack)
        stack.start_background()
        machine = stack.machines[0]
        accounts = [stack.books.account(paid_tokens=100_000) for _ in range(10)]
        greedy = stack.books.account(paid_tokens=100_000)
        assert register(other.url, "before@example.com") == 200
        stack.mail.wait_for("before@example.com", 60)
        with Load(16) as load:
            streams = [start(load, cut_off, accounts[0].key, MEDIUM) for _ in range(2)]
            wait_until(lambda: all(reply.chunks > 10 for reply in streams), 60, "streams")
            with machine.cut_off(REDIS):
                assert ready(cut_off.url) == 503
                assert ready(other.url) == 200
                usual = [
                    start(load, gateway, account.key, SHORT)
                    for account in accounts[1:]
                    for gateway in (cut_off, other)
                    for _ in range(4)
                ]
                wait_until(lambda: all(reply.ended_at for reply in usual), 120, "requests")
                refused = [
                    start(load, gateway, greedy.key, SHORT)
                    for _ in range(2 * KEY_LIMIT)
                    for gateway in (cut_off, other)
                ]
                wait_until(lambda: all(reply.ended_at for reply in refused), 120, "refusals")
                # The task of this mail cannot be queued here; a sweep on the other machine finds
                # the row.
                assert register(cut_off.url, "meanwhile@example.com") == 200
                mailed = until(
                    lambda: bool(stack.mail.messages("meanwhile@example.com")), "mail", 60
                )
            back = until(lambda: ready(cut_off.url) == 200, "/health/ready", 60)
            load.finish()

        assert {(reply.end, reply.status) for reply in usual} == {("done", 200)}
        assert {reply.end for reply in streams} == {"done"}
        assert {reply.code for reply in refused} == {"", "rate_limit_exceeded"}
        admitted = sum(reply.status == 200 for reply in refused)
        # Counted apart: in Redis, and in the one process that is cut off.
        assert KEY_LIMIT <= admitted <= 2 * KEY_LIMIT
        until(lambda: stack.books.open_holds() == 0, "no open hold", 60)
        stack.check_charges([*streams, *usual, *refused])
        stack.check_books()
        say(
            f"{admitted} admitted of a key at {KEY_LIMIT}; mail after {mailed:.0f} s;"
            f" ready {back:.1f} s after the outage"
        )


def test_machines_without_each_other(tmp_path: Path) -> None:
    """Machines do not speak to each other, so nothing happens."""
    with running(Machines(tmp_path / "stack")) as stack:
        first, second = gateways(stack)
        account = stack.books.account(paid_tokens=100_000)
        with stack.machines[0].cut_off(PEER):
            replies = [
                ask(gateway.port, account.key, SHORT, host=gateway.host)
                for _ in range(10)
                for gateway in (first, second)
            ]
            # On a busy machine a probe of the model server may have timed out.
            until(lambda: ready(first.url) == ready(second.url) == 200, "/health/ready", 60)
            first.flask("keys", "revoke", "--email", account.email, "--all", "--yes")
            refused = [
                ask(gateway.port, account.key, SHORT, host=gateway.host)
                for gateway in (first, second)
            ]
        assert {reply.end for reply in replies} == {"done"}
        assert [reply.status for reply in refused] == [401, 401]
        stack.check_charges(replies)
        stack.check_books()
