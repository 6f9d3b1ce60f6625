"""Settlements must not be lost while PostgreSQL is unavailable."""

import threading
import uuid

from promptly.gateway.settling import Settler
from promptly.services import account_deletion, metering
from promptly.transactions import transaction
from tests.gateway.conftest import Cuttable
from tests.support.books import wait_for


class Told:
    """A `settled` callback that counts its calls."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def placed(cuttable: Cuttable, prompt: int = 100) -> metering.Settlement:
    """Place a hold and return a settlement for it."""
    hold = cuttable.meter.place(cuttable.account, 200, max_open_holds=1000)
    return cuttable.meter.settlement(cuttable.account, hold.request_id, prompt, 20)


def test_a_settlement_is_made_at_once(cuttable: Cuttable) -> None:
    settler, told = Settler(cuttable.app, cuttable.database), Told()
    charge = settler.settle(placed(cuttable), told)
    assert charge == metering.Charge(120, 0, 9_880)
    assert (told.times, settler.pending()) == (1, 0)


def test_what_postgres_misses_is_settled_when_it_is_back(cuttable: Cuttable) -> None:
    settler = Settler(cuttable.app, cuttable.database)
    settlements = [placed(cuttable) for _ in range(20)]
    told = [Told() for _ in settlements]
    cuttable.proxy.shut()
    for settlement, heard in zip(settlements, told, strict=True):
        assert settler.settle(settlement, heard) is None
    assert settler.pending() == 20
    assert {heard.times for heard in told} == {0}
    cuttable.proxy.open()
    wait_for(lambda: settler.pending() == 0, "all settlements")
    wait_for(lambda: {heard.times for heard in told} == {1}, "all told once")
    assert cuttable.meter.figures(cuttable.account) == (10_000 - 20 * 120, 0, 0, 0, 0)
    assert len(cuttable.meter.books.events(cuttable.account)) == 20
    assert cuttable.meter.differences() == []
    # A later settlement succeeds at once, as before.
    assert settler.settle(placed(cuttable), Told()) is not None


def test_retries_survive_an_absence_that_lasts(cuttable: Cuttable) -> None:
    settler, told = Settler(cuttable.app, cuttable.database), Told()
    settlement = placed(cuttable)
    cuttable.proxy.shut()
    settler.settle(settlement, told)
    threading.Event().wait(2.5)
    assert (settler.pending(), told.times) == (1, 0)
    cuttable.proxy.open()
    wait_for(lambda: told.times == 1, "the settlement")
    assert settler.pending() == 0


def test_a_settlement_whose_answer_was_lost_is_not_made_twice(cuttable: Cuttable) -> None:
    settler, told = Settler(cuttable.app, cuttable.database), Told()
    settlement = placed(cuttable)
    first = metering.settle(cuttable.meter.database, settlement)
    assert settler.settle(settlement, told) == first
    assert told.times == 1
    assert cuttable.meter.figures(cuttable.account) == (9_880, 0, 0, 0, 0)


def test_cut_in_the_middle_again_and_again(cuttable: Cuttable) -> None:
    """Each cut leaves unknown whether a step took effect; each request is charged once."""
    settler = Settler(cuttable.app, cuttable.database)
    settlements = [placed(cuttable) for _ in range(40)]
    told = [Told() for _ in settlements]
    stop = threading.Event()

    def flap() -> None:
        while not stop.wait(0.01):
            cuttable.proxy.shut()
            cuttable.proxy.open()

    flapping = threading.Thread(target=flap)
    flapping.start()
    try:
        for settlement, heard in zip(settlements, told, strict=True):
            settler.settle(settlement, heard)
    finally:
        stop.set()
        flapping.join()
    cuttable.proxy.open()
    wait_for(lambda: {heard.times for heard in told} == {1}, "all settlements")
    assert settler.pending() == 0
    assert cuttable.meter.figures(cuttable.account) == (10_000 - 40 * 120, 0, 0, 0, 0)
    assert len(cuttable.meter.books.events(cuttable.account)) == 40
    assert cuttable.meter.differences() == []


def test_an_account_that_is_gone_keeps_nobody_waiting(cuttable: Cuttable) -> None:
    settler, told = Settler(cuttable.app, cuttable.database), Told()
    settlement = placed(cuttable)
    with cuttable.meter.books.app.app_context(), transaction():
        account_deletion.remove(cuttable.account.user_id)
    assert settler.settle(settlement, told) is None
    assert (told.times, settler.pending()) == (1, 0)


def test_a_hold_nobody_knows_is_charged_all_the_same(cuttable: Cuttable) -> None:
    settler = Settler(cuttable.app, cuttable.database)
    settlement = placed(cuttable)
    lost = cuttable.meter.settlement(
        cuttable.account, uuid.UUID(int=settlement.request_id.int + 1), 50, 5
    )
    charge = settler.settle(lost, Told())
    assert charge is not None
    assert charge.charged_tokens == 55
