"""Values in memory: who waits for a reading, and what stays if one fails."""

import threading
from collections.abc import Callable

import pytest

from promptly.errors import ServiceUnavailable
from promptly.gateway import refreshed as module
from promptly.gateway.refreshed import RETRY_SECONDS, Refreshed
from tests.support.books import wait_for


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


class Source:
    """Answers with a value, or fails; counts its readings, and can hold one back."""

    def __init__(self) -> None:
        self.value = 1
        self.problem: Exception | None = None
        self.readings = 0
        self.open = threading.Event()
        self.open.set()

    def __call__(self) -> int:
        self.readings += 1
        self.open.wait(10)
        if self.problem is not None:
            raise self.problem
        return self.value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def make(source: Callable[[], int]) -> Refreshed[int]:
    return Refreshed("number", source, 0, every_seconds=2.0, trusted_seconds=10.0)


def test_it_is_read_again_beside_those_who_ask(clock: Clock) -> None:
    source = Source()
    number = make(source)
    assert number.get() == number.get() == 1
    assert source.readings == 1
    source.value = 2
    source.open.clear()
    clock.now += 2
    assert number.get() == number.get() == 1
    source.open.set()
    wait_for(lambda: number.get() == 2, "the new value")
    assert source.readings == 2


def test_an_old_value_is_waited_for_by_all_who_ask_and_read_once(clock: Clock) -> None:
    source = Source()
    number = make(source)
    assert number.get() == 1
    source.value = 2
    source.open.clear()
    clock.now += 10
    found: list[int] = []
    askers = [threading.Thread(target=lambda: found.append(number.get())) for _ in range(8)]
    for asker in askers:
        asker.start()
    wait_for(lambda: source.readings == 2, "the reading")
    assert found == []
    source.open.set()
    for asker in askers:
        asker.join()
    assert found == [2] * 8
    assert source.readings == 2


@pytest.mark.parametrize("problem", [ServiceUnavailable(), ValueError("a bug")])
def test_the_last_known_value_stays(
    clock: Clock, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()
    number = make(source)
    assert number.get() == 1
    source.value, source.problem = 2, problem
    for _ in range(3):
        clock.now += 10
        assert number.get() == number.get() == 1
    assert source.readings == 4
    assert [record.message for record in caplog.records] == ["not read from the database"] * 3
    source.problem = None
    clock.now += 10
    assert number.get() == 2


def test_what_was_never_read_is_asked_for_soon_again(clock: Clock) -> None:
    source = Source()
    source.problem = ServiceUnavailable()
    number = make(source)
    assert number.get() == number.get() == 0
    assert source.readings == 1
    source.problem = None
    clock.now += RETRY_SECONDS
    assert number.get() == 1


def test_it_can_be_read_at_once(clock: Clock) -> None:
    source = Source()
    number = make(source)
    assert number.get() == 1
    source.value = 2
    number.refresh()
    assert number.get() == 2
