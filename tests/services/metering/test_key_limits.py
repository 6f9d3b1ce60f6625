"""Caps and requests at a time of single keys: exact, whatever else happens to their holds."""

import pytest

from promptly.errors import InsufficientQuota, KeyLimitReached, RateLimited, TokensReserved
from promptly.models.states import CapPeriod
from promptly.prices import DEFAULT
from promptly.services import metering
from promptly.services.metering import placing
from promptly.services.metering.recovery import STALE_SECONDS
from tests.services.metering.caps import set_cap, set_limits, turn_back, use
from tests.services.metering.meter import Meter
from tests.support.books import Account


def test_a_hold_takes_its_part_of_the_cap(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 500)
    hold = meter.place(account, 400)
    assert (hold.has_all, hold.stopped_by_key) == (False, True)
    assert use(meter, account) == (0, 400, 1)
    meter.settle(account, hold.request_id, 100, 50)
    assert use(meter, account) == (150, 0, 0)
    rest = meter.place(account, 400, minimum=1)
    assert (rest.held_tokens, rest.has_all, rest.stopped_by_key) == (350, True, True)
    assert meter.figures(account) == (850, 0, 350, 0, 1)


def test_a_cap_beyond_the_balance_stops_nothing(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 5000)
    hold = meter.place(account, 2000, minimum=1)
    assert (hold.held_tokens, hold.has_all, hold.stopped_by_key) == (1000, True, False)


def test_what_the_cap_does_not_leave_is_refused(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 500)
    hold = meter.place(account, 450)
    with pytest.raises(TokensReserved, match=r"450 tokens of this key's limit .* the 50 left"):
        meter.place(account, 60)
    meter.settle(account, hold.request_id, 450)
    with pytest.raises(KeyLimitReached) as refusal:
        meter.place(account, 60)
    assert refusal.value.room == 50
    assert "may spend 500 tokens a day, and the 50 left do not cover this request." in (
        refusal.value.message
    )
    assert "T00:00:00Z" in refusal.value.message
    # The last token can be spent.
    last = meter.place(account, 50)
    meter.settle(account, last.request_id, 50)
    assert use(meter, account) == (500, 0, 0)


def test_an_empty_balance_is_reported_before_the_cap(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 10)
    poor = meter.books.account(paid_tokens=5)
    set_cap(meter, poor, 3)
    with pytest.raises(InsufficientQuota):
        meter.place(poor, 6)


def test_other_keys_of_the_account_are_not_concerned(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 100)
    other = meter.books.key(account)
    hold = meter.place(other, 800)
    assert (hold.held_tokens, hold.stopped_by_key) == (800, False)
    meter.settle(other, hold.request_id, 700)
    assert use(meter, account) == (0, 0, 0)


def test_a_growing_hold_ends_at_the_cap(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 500)
    hold = meter.place(account, 400)
    moved = metering.adjust_hold(meter.database, hold.request_id, 700)
    assert moved == (500, True)
    assert use(meter, account) == (0, 500, 1)
    assert metering.adjust_hold(meter.database, hold.request_id, 200) == (200, False)
    assert use(meter, account) == (0, 200, 1)


def test_a_charge_beyond_its_hold_ends_at_the_cap(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 500)
    hold = meter.place(account, 400)
    charge = meter.settle(account, hold.request_id, 400, 200)
    assert charge is not None
    assert (charge.charged_tokens, charge.uncharged_tokens) == (500, 100)
    assert use(meter, account) == (500, 0, 0)


def test_a_request_that_began_before_the_limit_counts(meter: Meter, account: Account) -> None:
    first = meter.place(account, 300)
    meter.settle(account, first.request_id, 300)
    running = meter.place(account, 200)
    limits = set_cap(meter, account, 600)
    assert (limits.used_tokens, limits.reserved_tokens, limits.left_tokens) == (300, 200, 100)
    assert use(meter, account) == (300, 200, 1)
    meter.settle(account, running.request_id, 150)
    assert use(meter, account) == (450, 0, 0)


@pytest.mark.parametrize(
    ("period", "days", "counted"),
    [
        (CapPeriod.DAY, 1, 0),
        (CapPeriod.WEEK, 7, 0),
        (CapPeriod.MONTH, 31, 0),
        (CapPeriod.EVER, 1, 300),
        (CapPeriod.EVER, 40, 300),
    ],
)
def test_only_the_present_period_counts(
    meter: Meter, account: Account, period: CapPeriod, days: int, counted: int
) -> None:
    hold = meter.place(account, 300)
    meter.settle(account, hold.request_id, 300)
    set_cap(meter, account, 100_000)
    turn_back(meter, account, days)
    limits = set_cap(meter, account, 500, period)
    assert limits.used_tokens == counted
    assert use(meter, account)[0] == counted


def test_a_cap_begins_anew_with_its_period(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 500)
    meter.settle(account, meter.place(account, 400).request_id, 400)
    running = meter.place(account, 100)
    with pytest.raises(TokensReserved):
        meter.place(account, 1)
    turn_back(meter, account)
    # The running request will be charged in the new period.
    more = meter.place(account, 1000, minimum=1)
    assert more.held_tokens == 400
    meter.settle(account, running.request_id, 100)
    assert use(meter, account) == (100, 400, 1)
    meter.settle(account, more.request_id, 400)
    with pytest.raises(KeyLimitReached):
        meter.place(account, 1)


def test_a_charge_that_waited_over_midnight_stays_in_its_period(
    meter: Meter, account: Account
) -> None:
    """A transaction may have begun before midnight and get the lock when others are beyond it."""
    set_cap(meter, account, 500)
    hold = meter.place(account, 100)
    meter.books.rows(
        "UPDATE key_limits SET period_start = period_start + interval '1 day'"
        " WHERE key_id = :key_id",
        key_id=account.key_id,
    )
    charge = meter.settle(account, hold.request_id, 100, 50)
    # Only its hold is charged: nobody knows any more how much is left of the ended period.
    assert charge is not None
    assert (charge.charged_tokens, charge.uncharged_tokens) == (100, 50)
    assert use(meter, account) == (0, 0, 0)


def test_a_lower_cap_holds_for_running_requests(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 500)
    hold = meter.place(account, 300)
    set_cap(meter, account, 200)
    assert metering.adjust_hold(meter.database, hold.request_id, 400) == (300, True)
    charge = meter.settle(account, hold.request_id, 310)
    assert charge is not None
    assert (charge.charged_tokens, charge.uncharged_tokens) == (300, 10)
    with pytest.raises(KeyLimitReached, match="the 0 left do not cover"):
        meter.place(account, 1)
    set_cap(meter, account, 400)
    assert meter.place(account, 100).held_tokens == 100


def test_a_cap_that_is_taken_away(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 100)
    hold = meter.place(account, 60)
    limits = set_cap(meter, account, None)
    assert (limits.cap_tokens, limits.used_tokens, limits.any) == (None, 0, False)
    meter.settle(account, hold.request_id, 60)
    assert meter.place(account, 900).held_tokens == 900
    assert (
        meter.books.rows("SELECT 1 FROM key_limits WHERE user_id = :id", id=account.user_id) == []
    )


def test_requests_at_a_time(meter: Meter, account: Account) -> None:
    set_limits(meter, account, {"concurrent_requests": 2})
    holds = [meter.place(account, 10) for _ in range(2)]
    with pytest.raises(RateLimited, match="This key already runs 2 requests"):
        meter.place(account, 10)
    assert meter.place(meter.books.key(account), 10).held_tokens == 10
    # Requests of a dead process do not count.
    meter.silence(holds[0].request_id, placing.SILENT_SECONDS + 1)
    assert meter.place(account, 10).held_tokens == 10
    with pytest.raises(RateLimited):
        meter.place(account, 10)


def test_recovered_and_settled_late(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 500)
    hold = meter.place(account, 400)
    meter.checkpoint((hold.request_id, 100, 20))
    meter.silence(hold.request_id, STALE_SECONDS + 1)
    assert meter.recover(hold.request_id)
    assert use(meter, account) == (120, 0, 0)
    meter.settle(account, meter.place(account, 300).request_id, 300)
    # 80 are left of the cap, and 480 more were used.
    charge = meter.settle_late(account, hold.request_id, 100, 500)
    assert charge is not None
    assert (charge.charged_tokens, charge.uncharged_tokens) == (200, 400)
    assert use(meter, account) == (500, 0, 0)


def test_a_late_settlement_gives_back(meter: Meter, account: Account) -> None:
    set_cap(meter, account, 500)
    hold = meter.place(account, 400)
    meter.checkpoint((hold.request_id, 300, 20))
    meter.silence(hold.request_id, STALE_SECONDS + 1)
    assert meter.recover(hold.request_id)
    meter.settle_late(account, hold.request_id, 100, 50)
    assert use(meter, account) == (150, 0, 0)


@pytest.mark.parametrize(("completion", "charged"), [(500, 120), (10, 110)])
def test_a_late_settlement_of_a_period_that_has_ended(
    meter: Meter, account: Account, completion: int, charged: int
) -> None:
    set_cap(meter, account, 500)
    hold = meter.place(account, 400)
    meter.checkpoint((hold.request_id, 100, 20))
    meter.silence(hold.request_id, STALE_SECONDS + 1)
    assert meter.recover(hold.request_id)
    # As an event of the last second before midnight would look.
    meter.books.rows(
        "UPDATE key_limits SET used_tokens = 0, period_start = now() + interval '1 ms'"
        " WHERE key_id = :key_id",
        key_id=account.key_id,
    )
    charge = meter.settle_late(account, hold.request_id, 100, completion)
    assert charge is not None
    assert charge.charged_tokens == charged
    assert use(meter, account) == (0, 0, 0)


def test_a_hold_that_was_lost_is_placed_within_the_cap(meter: Meter, account: Account) -> None:
    set_limits(
        meter,
        account,
        {"cap_tokens": 500, "cap_period": CapPeriod.EVER, "concurrent_requests": 1},
    )
    hold = meter.place(account, 300)
    meter.books.rows("DELETE FROM holds WHERE request_id = :id", id=hold.request_id)
    meter.books.rows(
        "UPDATE balances SET held_paid = 0, open_holds = 0 WHERE user_id = :id", id=account.user_id
    )
    meter.books.rows(
        "UPDATE key_limits SET held_tokens = 0, open_holds = 0 WHERE key_id = :id",
        id=account.key_id,
    )
    other = meter.place(account, 400)
    # The request runs already: only the tokens are bounded.
    assert metering.place_lost_hold(meter.database, hold, 300) == (100, True)
    meter.settle(account, other.request_id, 400)
    meter.settle(account, hold.request_id, 100)
    assert use(meter, account) == (500, 0, 0)


def test_the_release_before_respects_caps(meter: Meter, account: Account) -> None:
    """Its functions stay while both releases run."""
    set_cap(meter, account, 500)
    place = (
        "SELECT placed, held FROM metering_place_hold("
        " gen_random_uuid(), :user_id, :key_id, 'chat.completions', 'm', 800, 1, 8{price})"
    )
    names = {"user_id": account.user_id, "key_id": account.key_id}
    [row] = meter.books.rows(place.format(price=""), **names)
    assert (row["placed"], row["held"]) == (True, 500)
    [row] = meter.books.rows(place.format(price=f", {DEFAULT.id}"), **names)
    assert row["placed"] is False
    [hold] = meter.books.rows(
        "SELECT request_id FROM holds WHERE key_id = :key_id", key_id=account.key_id
    )
    [row] = meter.books.rows("SELECT metering_adjust_hold(:id, 900) AS held", id=hold["request_id"])
    assert row["held"] == 500
