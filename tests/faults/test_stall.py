"""Streams of a stopped worker are charged once, whether the sweep or the worker settles first.

All three workers are stopped in the same run, because each has to wait in real time: one continues
once the sweep has settled its stream, one after two minutes, and one is killed by gunicorn, which
kills a worker that is silent for a minute.
"""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.books import wait_for
from tests.support.load import Load, Reply
from tests.support.process_stack import ProcessStack, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

TOKENS = 200
DIRECTIVES = f"tokens={TOKENS} delay_ms=50"
STOPPED_SECONDS = 120


@dataclass
class Stall:
    """One stream of a stopped worker: its reply, upstream's record, and its usage event.

    `recovered` is the event after the sweep, `final` the event at the end.
    """

    reply: Reply
    recovered: dict[str, Any]
    final: dict[str, Any]
    record: dict[str, Any]


@pytest.fixture(scope="module")
def stalls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stall]]:
    # A recovered hold no longer grows, so the first quantum has to cover the stream.
    stack = ProcessStack(tmp_path_factory.mktemp("stall") / "stack", HOLD_QUANTUM_TOKENS=TOKENS)
    with running(stack):
        stack.start_background()
        usual = stack.gateway()
        patient: dict[str, Any] = {"GUNICORN_CMD_ARGS": "--timeout 600"}
        gateways = {
            "killed": usual,
            "early": stack.gateway(**patient),
            "late": stack.gateway(**patient),
        }
        workers = {name: gateway.worker_pids()[0] for name, gateway in gateways.items()}
        account = stack.books.account(paid_tokens=10_000)
        stack.wait_for_sweeps()
        with Load(len(gateways)) as load:
            replies = {
                name: load.start(
                    gateway.port, account.key, DIRECTIVES, timeout_seconds=STOPPED_SECONDS + 60
                )
                for name, gateway in gateways.items()
            }
            wait_for(
                lambda: (
                    stack.books.rows(
                        "SELECT count(*) AS n FROM holds WHERE completion_tokens > 10"
                    )[0]["n"]
                    == len(gateways)
                ),
                "a checkpoint of each stream",
            )
            for worker in workers.values():
                os.kill(worker, signal.SIGSTOP)
            stopped_at = time.monotonic()
            wait_for(lambda: len(stack.events()) == len(gateways), "recovery", 60)
            assert stack.books.open_holds() == 0
            recovered = stack.events()

            os.kill(workers["early"], signal.SIGCONT)
            wait_for(lambda: bool(replies["early"].ended_at), "the early stream's end", 30)
            wait_for(lambda: workers["killed"] not in usual.worker_pids(), "gunicorn's kill", 90)
            while (left := stopped_at + STOPPED_SECONDS - time.monotonic()) > 0:
                time.sleep(left)
            os.kill(workers["late"], signal.SIGCONT)
            load.finish()
        wait_for(
            lambda: [event["outcome"] for event in stack.events().values()].count("completed") == 2,
            "the late settlements",
        )
        events, records = stack.events(), stack.records()
        # Further sweeps change nothing.
        stack.check_books()
        charged = sum(event["charged_tokens"] for event in events.values())
        assert stack.books.balance(account)["available_tokens"] == 10_000 - charged
        yield {
            name: Stall(
                reply,
                recovered[reply.request_id],
                events[reply.request_id],
                records[reply.tag],
            )
            for name, reply in replies.items()
        }


@pytest.mark.parametrize("name", ["early", "late"])
def test_a_stream_that_goes_on_is_charged_just_the_difference(
    stalls: dict[str, Stall], name: str
) -> None:
    stall = stalls[name]
    counted = stall.record["prompt_tokens"] + stall.record["completion_tokens"]

    assert stall.recovered["outcome"] == "recovered"
    assert 0 < stall.recovered["charged_tokens"] < counted
    assert stall.final["outcome"] == "completed"
    assert stall.final["completion_tokens"] == TOKENS
    assert stall.final["charged_tokens"] == counted
    assert stall.final["uncharged_tokens"] == 0
    assert stall.reply.end == "done"
    assert stall.reply.finish_reason == "stop"
    assert stall.reply.usage is not None
    assert stall.reply.usage["total_tokens"] == counted


def test_a_stream_whose_worker_gunicorn_killed_is_charged_its_last_checkpoint(
    stalls: dict[str, Stall],
) -> None:
    stall = stalls["killed"]

    assert stall.reply.end == "cut"
    assert stall.final == stall.recovered
    assert stall.final["outcome"] == "recovered"
    assert (
        0
        < stall.final["charged_tokens"]
        <= (stall.record["prompt_tokens"] + stall.record["completion_tokens"])
    )
