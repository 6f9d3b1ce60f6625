"""Settlements must not be lost while PostgreSQL is unavailable."""

import threading
import uuid

from promptly.gateway.settling import Settler
from promptly.services import account_deletion, metering
from promptly.transactions import transaction
from tests.gateway.conftest import Cuttable
from tests.support.books import wait_for


class Callback:
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
    settler, callback = Settler(cuttable.app, cuttable.database), Callback()
    charge = settler.settle(placed(cuttable), callback)
    assert charge == metering.Charge(120, 0, 9_880)
    assert (callback.times, settler.pending()) == (1, 0)


def test_settlements_wait_for_postgres(cuttable: Cuttable) -> None:
    settler = Settler(cuttable.app, cuttable.database)
    settlements = [placed(cuttable) for _ in range(20)]
    callbacks = [Callback() for _ in settlements]
    cuttable.proxy.shut()
    for settlement, callback in zip(settlements, callbacks, strict=True):
        assert settler.settle(settlement, callback) is None
    assert settler.pending() == 20
    assert {callback.times for callback in callbacks} == {0}
    cuttable.proxy.open()
    wait_for(lambda: settler.pending() == 0, "all settlements")
    wait_for(lambda: {callback.times for callback in callbacks} == {1}, "one call of each")
    assert cuttable.meter.figures(cuttable.account) == (10_000 - 20 * 120, 0, 0, 0, 0)
    assert len(cuttable.meter.books.events(cuttable.account)) == 20
    assert cuttable.meter.differences() == []
    # A later settlement succeeds at once, as before.
    assert settler.settle(placed(cuttable), Callback()) is not None


def test_retries_survive_an_absence_that_lasts(cuttable: Cuttable) -> None:
    settler, callback = Settler(cuttable.app, cuttable.database), Callback()
    settlement = placed(cuttable)
    cuttable.proxy.shut()
    settler.settle(settlement, callback)
    threading.Event().wait(2.5)
    assert (settler.pending(), callback.times) == (1, 0)
    cuttable.proxy.open()
    wait_for(lambda: callback.times == 1, "the settlement")
    assert settler.pending() == 0


def test_a_settlement_whose_answer_was_lost_is_not_made_twice(cuttable: Cuttable) -> None:
    settler, callback = Settler(cuttable.app, cuttable.database), Callback()
    settlement = placed(cuttable)
    first = metering.settle(cuttable.meter.database, settlement)
    assert settler.settle(settlement, callback) == first
    assert callback.times == 1
    assert cuttable.meter.figures(cuttable.account) == (9_880, 0, 0, 0, 0)


def test_cut_in_the_middle_again_and_again(cuttable: Cuttable) -> None:
    """Each cut leaves unknown whether a step took effect; each request is charged once."""
    settler = Settler(cuttable.app, cuttable.database)
    settlements = [placed(cuttable) for _ in range(40)]
    callbacks = [Callback() for _ in settlements]
    stop = threading.Event()

    def flap() -> None:
        while not stop.wait(0.01):
            cuttable.proxy.shut()
            cuttable.proxy.open()

    flapping = threading.Thread(target=flap)
    flapping.start()
    try:
        for settlement, callback in zip(settlements, callbacks, strict=True):
            settler.settle(settlement, callback)
    finally:
        stop.set()
        flapping.join()
    cuttable.proxy.open()
    wait_for(lambda: {callback.times for callback in callbacks} == {1}, "all settlements")
    assert settler.pending() == 0
    assert cuttable.meter.figures(cuttable.account) == (10_000 - 40 * 120, 0, 0, 0, 0)
    assert len(cuttable.meter.books.events(cuttable.account)) == 40
    assert cuttable.meter.differences() == []


def test_a_deleted_account_has_nothing_to_wait_for(cuttable: Cuttable) -> None:
    settler, callback = Settler(cuttable.app, cuttable.database), Callback()
    settlement = placed(cuttable)
    with cuttable.meter.books.app.app_context(), transaction():
        account_deletion.remove(cuttable.account.user_id)
    assert settler.settle(settlement, callback) is None
    assert (callback.times, settler.pending()) == (1, 0)


def test_an_unknown_hold_is_charged_all_the_same(cuttable: Cuttable) -> None:
    settler = Settler(cuttable.app, cuttable.database)
    settlement = placed(cuttable)
    lost = cuttable.meter.settlement(
        cuttable.account, uuid.UUID(int=settlement.request_id.int + 1), 50, 5
    )
    charge = settler.settle(lost, Callback())
    assert charge is not None
    assert charge.charged_tokens == 55
