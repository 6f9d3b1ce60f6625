from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptly.errors import RateLimited, ServiceUnavailable
from promptly.gateway.body_budget import KEPT_BYTES, MIB, SMALL_BYTES, BodyBudget, BodyShare


@pytest.fixture
def budget() -> BodyBudget:
    return BodyBudget(16 * MIB)


def test_an_account_is_bounded_whatever_its_addresses(budget: BodyBudget) -> None:
    shares = [budget.share(1, f"address{number}") for number in range(4)]
    for share in shares[:3]:
        share.grow(8 * MIB)
    with pytest.raises(RateLimited) as refusal:
        shares[3].grow(1)
    assert refusal.value.retry_after_seconds
    budget.share(2, "address0").grow(8 * MIB)


def test_an_address_is_bounded_whatever_its_accounts(budget: BodyBudget) -> None:
    for user_id in range(4):
        budget.share(user_id, "address").grow(8 * MIB)
    with pytest.raises(RateLimited):
        budget.share(5, "address").require(1)
    budget.share(5, "other").require(1)


def test_a_process_is_bounded_but_takes_small_bodies_a_little_longer(budget: BodyBudget) -> None:
    for number in range(8):
        budget.share(number, f"address{number}").grow(8 * MIB)
    with pytest.raises(ServiceUnavailable):
        budget.share(9, "address9").require(SMALL_BYTES + 1)
    for number in range(16 * MIB // SMALL_BYTES):
        budget.share(100 + number, f"address{number % 8}").grow(SMALL_BYTES)
    with pytest.raises(ServiceUnavailable):
        budget.share(9, "address9").require(1)


def test_a_body_displaces_one_of_the_account_with_the_most(budget: BodyBudget) -> None:
    displaced: list[str] = []

    def share(user_id: int, name: str) -> BodyShare:
        return budget.share(user_id, f"address{user_id}", lambda: displaced.append(name))

    large, small, complete = share(1, "large"), share(1, "small"), share(2, "complete")
    for other, size in ((large, 12), (small, 10), (complete, 24), (share(3, "other"), 16)):
        other.grow(size * MIB)
    complete.arrived()
    late = share(4, "late")
    late.require(10 * MIB)
    assert displaced == ["large"]
    with pytest.raises(ServiceUnavailable):
        large.grow(1)
    with pytest.raises(ServiceUnavailable):
        large.finish_reading(MIB)
    large.give_back()
    late.grow(14 * MIB)
    # The others have no more than it would have.
    with pytest.raises(ServiceUnavailable):
        late.grow(2 * MIB)
    assert displaced == ["large"]
    assert budget.in_hand() == (10 + 24 + 16 + 14) * MIB


def test_a_refused_share_counts_for_nothing(budget: BodyBudget) -> None:
    with pytest.raises(RateLimited):
        budget.share(1, "address").grow(25 * MIB)
    budget.share(1, "address").grow(24 * MIB)


def test_a_body_that_waits_counts_for_its_account_only(budget: BodyBudget) -> None:
    shares = [budget.share(user_id, "address") for user_id in range(4)]
    for share in shares:
        share.grow(16 * MIB)
        share.finish_reading(20 * MIB)
    budget.share(9, "address").require(16 * MIB)
    with pytest.raises(RateLimited):
        budget.share(0, "address").require(5 * MIB)
    assert budget.in_hand() == 4 * 20 * MIB


def test_decompressed_bodies_count_for_their_account(budget: BodyBudget) -> None:
    first, second = budget.share(1, "address"), budget.share(1, "other")
    first.grow(SMALL_BYTES)
    first.finish_reading(16 * MIB)
    second.grow(SMALL_BYTES)
    with pytest.raises(RateLimited):
        second.finish_reading(16 * MIB)
    second.give_back()
    assert budget.in_hand() == 16 * MIB


def test_waiting_bodies_are_bounded(budget: BodyBudget) -> None:
    for user_id in range(8):
        share = budget.share(user_id, "address")
        share.grow(16 * MIB)
        share.finish_reading(16 * MIB)
    late = budget.share(9, "address")
    late.grow(MIB)
    with pytest.raises(ServiceUnavailable):
        late.finish_reading(MIB)
    assert budget.in_hand() == 129 * MIB


def test_all_is_given_back_once(budget: BodyBudget) -> None:
    read, waits, empty = (budget.share(1, "address") for _ in range(3))
    read.grow(MIB)
    waits.grow(MIB)
    waits.finish_reading(2 * MIB)
    for share in (read, waits, empty, read, waits):
        share.give_back()
    assert budget.in_hand() == 0
    budget.share(1, "address").require(24 * MIB)


def test_larger_bodies_get_larger_bounds() -> None:
    BodyBudget(100 * MIB).share(1, "address").grow(100 * MIB)


def test_running_requests_keep_bodies_as_long_as_they_fit(budget: BodyBudget) -> None:
    shares = [budget.share(1, "address") for _ in range(3)]
    for share in shares:
        share.grow(8 * MIB)
        share.finish_reading(8 * MIB)
    assert [share.keep() for share in shares] == [True, True, False]
    # Those kept count for no account any more.
    budget.share(1, "address").require(16 * MIB)
    assert budget.in_hand() == 24 * MIB
    shares[0].give_back()
    shares[0].give_back()
    assert budget.in_hand() == 16 * MIB
    assert shares[2].keep()
    for share in shares:
        share.give_back()
    assert budget.in_hand() == 0


STEPS = st.sampled_from(["grow", "finish", "keep", "give_back", "arrived"])


@given(st.lists(st.tuples(st.integers(0, 5), STEPS, st.integers(0, 20)), max_size=60))
def test_nothing_is_left_whatever_happened(steps: list[tuple[int, str, int]]) -> None:
    budget = BodyBudget(16 * MIB)
    shares = [budget.share(number % 3, f"address{number % 2}", lambda: None) for number in range(6)]
    for number, step, size in steps:
        share = shares[number]
        with suppress(RateLimited, ServiceUnavailable):
            if step == "grow" and not share.is_waiting:
                share.grow(size * MIB)
            elif step == "finish" and not share.is_waiting:
                share.finish_reading(size * MIB)
            elif step == "keep" and share.is_waiting:
                share.keep()
            elif step == "give_back":
                share.give_back()
            elif step == "arrived":
                budget.arrived(share)
        assert budget.in_hand() == sum(each.size for each in shares)
        assert budget._kept <= KEPT_BYTES and budget._waiting <= budget.waiting_bytes
    for share in shares:
        share.give_back()
    assert budget.in_hand() == budget._kept == budget._waiting == budget._reading == 0
    assert not budget._accounts and not budget._addresses
