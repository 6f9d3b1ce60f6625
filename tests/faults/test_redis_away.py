"""Redis killed or frozen under load: requests go on, limits hold, and mail catches up later."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.process import wait_until
from tests.support.load import Load, ask
from tests.support.machines import KINDS
from tests.support.process_stack import ProcessStack, ready, register, running, say, until

pytestmark = pytest.mark.timeout(480)

WORKERS = 2
KEY_LIMIT = 30
SHORT = "tokens=20 delay_ms=5"
# So long that it still runs when Redis leaves, even on a slow machine.
STREAM = "tokens=900 delay_ms=50"
# An unavailable Redis costs a request at most a connect and a read timeout (0.5 s each), once for
# its limits and once for its slot.
SLOWER_SECONDS = 2.0
MAIL_SECONDS = 60.0


def _stop(stack: ProcessStack) -> None:
    stack.redis.kill()


def _start(stack: ProcessStack) -> None:
    stack.redis.start()


def _freeze(stack: ProcessStack) -> None:
    stack.redis.pause()


def _thaw(stack: ProcessStack) -> None:
    stack.redis.resume()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("leave", "come_back"), [(_stop, _start), (_freeze, _thaw)])
def test_redis_goes_under_load(
    leave: Callable[[ProcessStack], None],
    come_back: Callable[[ProcessStack], None],
    kind: type[ProcessStack],
    tmp_path: Path,
) -> None:
    with running(kind(tmp_path / "stack", INFERENCE_USER_RATE_LIMIT=KEY_LIMIT)) as stack:
        stack.start_background()
        gateway = stack.site(workers=WORKERS)
        # Enough keys to keep the load below the limit per key, and one more that exceeds it.
        accounts = [stack.books.account(paid_tokens=100_000) for _ in range(40)]
        greedy = stack.books.account(paid_tokens=100_000)
        with Load(12) as load:
            usual = [ask(gateway.port, accounts[1].key, SHORT) for _ in range(20)]
            assert {reply.status for reply in usual} == {200}
            # The first mail proves that the Celery worker is running.
            assert register(gateway.url, "before@example.com") == 200
            stack.mail.wait_for("before@example.com", 60)

            streams = [load.start(gateway.port, accounts[0].key, STREAM) for _ in range(3)]
            wait_until(lambda: all(reply.chunks > 5 for reply in streams), 30, "streams")
            leave(stack)
            before = {reply.tag: reply.chunks for reply in streams}
            away_since = time.monotonic()
            assert ready(gateway.url) == 503
            registering = time.monotonic()
            assert register(gateway.url, "meanwhile@example.com") == 200
            registering = time.monotonic() - registering
            meanwhile = []
            for account in accounts[2:]:
                meanwhile += [
                    load.start(gateway.port, account.key, SHORT, stream=number % 2 == 0)
                    for number in range(4)
                ]
            wait_until(lambda: all(reply.ended_at for reply in meanwhile), 180, "requests")
            refused = [load.start(gateway.port, greedy.key, SHORT) for _ in range(3 * KEY_LIMIT)]
            wait_until(lambda: all(reply.ended_at for reply in refused), 60, "refusals")
            wait_until(
                lambda: all(reply.chunks > before[reply.tag] + 20 for reply in streams),
                20,
                "chunks",
            )
            away = time.monotonic() - away_since
            assert stack.mail.messages("meanwhile@example.com") == []

            come_back(stack)
            mailed = until(
                lambda: bool(stack.mail.messages("meanwhile@example.com")), "mail", MAIL_SECONDS
            )
            assert ready(gateway.url) == 200
            load.finish()

        assert {(reply.end, reply.status) for reply in meanwhile} == {("done", 200)}
        assert {reply.end for reply in streams} == {"done"}
        admitted = [reply for reply in refused if reply.status == 200]
        assert KEY_LIMIT <= len(admitted) <= KEY_LIMIT * WORKERS
        assert {reply.code for reply in refused} == {"", "rate_limit_exceeded"}
        slowest = max(reply.seconds for reply in usual)
        waits = [reply.answered_at - reply.started_at for reply in meanwhile]

        warnings = [
            line
            for name, text in stack.log_texts().items()
            if name.endswith("gateway.log")
            for line in map(json.loads, text.splitlines())
            if line["message"].startswith("Redis is away")
        ]
        assert 1 <= len(warnings) <= WORKERS * (1 + away // 60)
        until(lambda: stack.books.open_holds() == 0, "no open hold", 20)
        stack.check_charges([*streams, *usual, *meanwhile, *refused])
        stack.check_books()
        say(
            f"away {away:.0f} s; first byte: median {statistics.median(waits) * 1000:.0f} ms, most"
            f" {max(waits):.2f} s (usually at most {slowest:.2f} s); registration answered in"
            f" {registering:.2f} s, mailed {mailed:.0f} s after the return; {len(admitted)}"
            f" requests of a key admitted by {WORKERS} processes at {KEY_LIMIT} each;"
            f" {len(warnings)} warnings"
        )


@pytest.mark.alone
def test_a_request_takes_hardly_longer_without_redis(tmp_path: Path) -> None:
    with running(ProcessStack(tmp_path / "stack", INFERENCE_USER_RATE_LIMIT=KEY_LIMIT)) as stack:
        gateway = stack.gateway(workers=WORKERS)
        accounts = [stack.books.account(paid_tokens=100_000) for _ in range(40)]
        usual = [ask(gateway.port, accounts[0].key, SHORT) for _ in range(20)]
        slowest = max(reply.seconds for reply in usual)
        for leave, come_back in ((_stop, _start), (_freeze, _thaw)):
            leave(stack)
            with Load(12) as load:
                meanwhile = [
                    load.start(gateway.port, account.key, SHORT, stream=number % 2 == 0)
                    for account in accounts[1:]
                    for number in range(4)
                ]
                load.finish()
            assert {(reply.end, reply.status) for reply in meanwhile} == {("done", 200)}
            assert max(reply.seconds for reply in meanwhile) <= slowest + SLOWER_SECONDS
            come_back(stack)
            until(lambda: ready(gateway.url) == 200, "Redis again", 30)


@pytest.mark.slow
def test_the_worker_outlives_redis_whatever_it_is_doing(tmp_path: Path) -> None:
    with running(ProcessStack(tmp_path / "stack", REGISTRATION_RATE_LIMIT=100)) as stack:
        stack.start_background()
        gateway = stack.gateway()
        for number, away_seconds in enumerate((0.5, 3.0, 0.5, 3.0)):
            # The first mail's task is running, or being acknowledged, when Redis is killed.
            assert register(gateway.url, f"first{number}@example.com") == 200
            if number:
                stack.mail.wait_for(f"first{number - 1}@example.com", MAIL_SECONDS)
            stack.redis.kill()
            assert register(gateway.url, f"second{number}@example.com") == 200
            time.sleep(away_seconds)
            stack.redis.start()
            stack.mail.wait_for(f"second{number}@example.com", MAIL_SECONDS)
