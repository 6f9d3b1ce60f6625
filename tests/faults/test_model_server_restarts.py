"""Model servers restarted under load: no request fails that had not begun."""

from collections.abc import Iterator

import pytest
from flask import Flask

from promptly.app import create_app
from sandbox.llama import SimulatedLlama
from tests.conftest import dispose
from tests.plugins.stacks import MakeStack
from tests.support.books import wait_for
from tests.support.load import Load
from tests.support.servers import make_settings
from tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHORT = "tokens=15 delay_ms=10"
# The server has begun a request once it has sent headers, as it does before it reads the prompt.
NOT_BEGUN = "headers_ms=2000 tokens=5"
BEGUN = "tokens=120 delay_ms=30"


@pytest.fixture
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("restarts") as stack:
        yield stack


@pytest.fixture
def llamas(stack: Stack) -> list[SimulatedLlama]:
    return [stack.simulated_llama(slots=3) for _ in range(2)]


@pytest.fixture
def operator(stack: Stack, llamas: list[SimulatedLlama]) -> Iterator[Flask]:
    """The application of an operator's commands, in a process that serves no request."""
    urls = tuple(llama.url for llama in llamas)
    settings = make_settings(
        database_url=stack.database_url, redis_url=stack.redis_url, llama_base_url=urls
    )
    app = create_app(settings)
    yield app
    dispose(app)


def flask(app: Flask, *arguments: str) -> str:
    result = app.test_cli_runner().invoke(args=list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _wait_for_more(load: Load) -> None:
    done = len(load.sent("done"))
    wait_for(lambda: len(load.sent("done")) > done + 5, "more answers")


def _wait_for_requests(llama: SimulatedLlama) -> None:
    wait_for(lambda: bool(llama.requests()), "it gets requests again", 60)


def test_a_rolling_restart_fails_no_request(
    stack: Stack, llamas: list[SimulatedLlama], operator: Flask
) -> None:
    gateway = stack.gateway(*(llama.url for llama in llamas), workers=2)
    account = stack.books.account(paid_tokens=10_000_000)
    with Load(9) as load:
        for number in range(8):
            load.repeat(gateway.port, account.key, SHORT, stream=number % 2 == 0)
        wait_for(lambda: all(llama.requests() for llama in llamas), "both servers are busy")
        long = load.start(gateway.port, account.key, BEGUN)
        wait_for(lambda: long.chunks > 5, "a stream that runs as its server is drained")
        for llama in llamas:
            flask(operator, "upstreams", "drain", llama.url, "--wait", "120")
            assert llama.totals()["processing"] == 0
            _wait_for_more(load)
            # Its restart is seen by the operator only.
            assert llama.totals()["processing"] == 0
            llama.stop()
            llama.start()
            flask(operator, "upstreams", "resume", llama.url)
            _wait_for_requests(llama)
        replies = load.finish()
    assert long.end == "done"
    assert {reply.end for reply in replies} == {"done"}
    assert {reply.status for reply in replies} == {200}


@pytest.mark.exhaustive
def test_a_restart_without_warning_costs_only_what_had_begun(
    stack: Stack, llamas: list[SimulatedLlama]
) -> None:
    gateway = stack.gateway(*(llama.url for llama in llamas), workers=2)
    accounts = [stack.books.account(paid_tokens=1_000_000) for _ in range(2)]
    leaving = llamas[0]
    with Load(12) as load:
        begun = [load.start(gateway.port, accounts[0].key, BEGUN) for _ in range(3)]
        wait_for(lambda: all(reply.chunks > 2 for reply in begun), "streams")
        fresh = [load.start(gateway.port, accounts[1].key, NOT_BEGUN) for _ in range(5)]
        wait_for(
            lambda: sum(llama.totals()["processing"] for llama in llamas) == 6, "all slots taken"
        )
        there = {record["tag"] for record in leaving.requests()}
        cut = [reply for reply in begun if reply.tag in there]
        assert cut and there & {reply.tag for reply in fresh}
        leaving.stop()
        wait_for(lambda: all(reply.ended_at for reply in cut), "the end of what had begun")
        leaving.start()
        load.repeat(gateway.port, accounts[1].key, SHORT)
        _wait_for_requests(leaving)
        replies = load.finish()
    assert {(reply.end, reply.code) for reply in cut} == {("error", "upstream_error")}
    others = [reply for reply in replies if reply not in cut]
    assert [reply for reply in others if (reply.status, reply.end) != (200, "done")] == []
