"""What goes on beside running requests: checkpoints, wishes for more, time limits."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from promptly.gateway import bookkeeper as module
from promptly.gateway.bookkeeper import Bookkeeper
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.live import LiveRequest
from promptly.services.accounts import accounts
from promptly.settings import Settings
from promptly.transactions import transaction
from tests.books import wait_for
from tests.gateway.conftest import Cuttable


class Keeper(Bookkeeper):
    """A bookkeeper, and requests for it."""

    def __init__(self, cuttable: Cuttable, settings: Settings) -> None:
        super().__init__(settings, cuttable.lane)
        self.cuttable = cuttable

    def request(self, held: int = 200, prompt: int = 0, completion: int = 0) -> LiveRequest:
        hold = self.cuttable.meter.place(self.cuttable.account, held)
        reader = ChunkReader(include_usage=False)
        reader.prompt_size = reader.prompt_tokens = prompt
        reader.completion_tokens = completion
        live = LiveRequest(hold.request_id, reader, hold.held_tokens, None)
        self.add(live)
        return live

    def noted(self, live: LiveRequest) -> tuple[int, int]:
        row = self.cuttable.meter.hold_row(live.request_id)
        assert row is not None
        return row["prompt_tokens"], row["completion_tokens"]


@pytest.fixture
def keeper(cuttable: Cuttable, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.1)
    settings: Settings = cuttable.app.extensions["settings"]
    made = Keeper(cuttable, replace(settings, request_timeout_seconds=100))
    yield made
    for live in list(made._live.values()):
        made.remove(live)


def test_counts_are_checkpointed(keeper: Keeper) -> None:
    lives = [keeper.request(prompt=10 * n, completion=n) for n in range(1, 4)]
    wait_for(lambda: [keeper.noted(x) for x in lives] == [(10, 1), (20, 2), (30, 3)], "counts")
    lives[0].reader.completion_tokens = 50
    wait_for(lambda: keeper.noted(lives[0]) == (10, 50), "the newer count")


def test_requests_of_an_account_that_is_being_deleted_end(keeper: Keeper) -> None:
    live = keeper.request(prompt=10)
    wait_for(lambda: keeper.noted(live) == (10, 0), "a checkpoint")
    assert live.stop_reason is None
    with keeper.cuttable.meter.books.app.app_context(), transaction():
        accounts.close(keeper.cuttable.account.user_id)
    wait_for(lambda: live.stop_reason == "account_deleted", "the end")


def test_a_settled_request_is_left_alone(keeper: Keeper) -> None:
    settled, running = keeper.request(prompt=10), keeper.request(prompt=20)
    settled.settled = True
    wait_for(lambda: keeper.noted(running) == (20, 0), "the other's checkpoint")
    assert keeper.noted(settled) == (0, 0)
    assert len(keeper) == 2
    keeper.remove(settled)
    keeper.remove(settled)
    assert len(keeper) == 1


def test_checkpoints_go_on_after_postgres_was_away(
    keeper: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    live = keeper.request(prompt=10)
    wait_for(lambda: keeper.noted(live) == (10, 0), "a checkpoint")
    keeper.cuttable.gate.shut()
    live.reader.completion_tokens = 7
    wait_for(lambda: "checkpoint put off" in caplog.text, "a checkpoint that fails")
    assert keeper.noted(live) == (10, 0)
    keeper.cuttable.gate.open()
    wait_for(lambda: keeper.noted(live) == (10, 7), "the checkpoint that was put off")
    assert live.stop_reason is None


def test_a_wish_is_met(keeper: Keeper) -> None:
    live = keeper.request(held=200, prompt=100)
    keeper.ask(live, 500)
    assert live.adjusted.wait(10)
    assert (live.held_tokens, live.can_grow, live.target_tokens) == (500, True, None)
    assert live.reader.limit == 400
    keeper.ask(live, 150)
    assert live.adjusted.wait(10)
    assert (live.held_tokens, live.reader.limit) == (150, 50)


def test_a_wish_beyond_the_balance(keeper: Keeper) -> None:
    live = keeper.request(held=200, prompt=100)
    keeper.ask(live, 50_000)
    assert live.adjusted.wait(10)
    assert (live.held_tokens, live.can_grow) == (10_000, False)
    assert live.reader.limit == 9_900


def test_a_wish_for_a_hold_that_is_gone(keeper: Keeper) -> None:
    live = keeper.request(held=200, prompt=100)
    keeper.cuttable.meter.settle(keeper.cuttable.account, live.request_id, 1)
    keeper.ask(live, 500)
    assert live.adjusted.wait(10)
    assert (live.held_tokens, live.can_grow) == (200, False)


def test_a_wish_waits_for_postgres(keeper: Keeper) -> None:
    live = keeper.request(held=200, prompt=100)
    keeper.cuttable.gate.shut()
    keeper.ask(live, 500)
    assert not live.adjusted.wait(0.5)
    assert live.stop_reason is None
    keeper.cuttable.gate.open()
    assert live.adjusted.wait(10)
    assert live.held_tokens == 500


def test_an_overdue_request_is_stopped(keeper: Keeper) -> None:
    live, other = keeper.request(), keeper.request()
    live.started_at -= 1000
    wait_for(lambda: live.stop_reason == "timeout", "the end")
    assert other.stop_reason is None


def test_all_are_stopped_for_one_reason(keeper: Keeper) -> None:
    first, second = keeper.request(), keeper.request()
    first.stop("client_disconnected")
    keeper.stop_all("shutdown")
    assert (first.stop_reason, second.stop_reason) == ("client_disconnected", "shutdown")
