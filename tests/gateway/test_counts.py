"""Upstream's figures are taken for counts only as far as they can be counts."""

import pytest

from promptly.gateway.counts import MOST_TOKENS, are_counts, corrected, count_of


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        (0, 0),
        (7, 7),
        (7.9, 7),
        (MOST_TOKENS, MOST_TOKENS),
        (MOST_TOKENS + 1, MOST_TOKENS),
        (2**80, MOST_TOKENS),
        (1e300, MOST_TOKENS),
        *(
            (nonsense, 3)
            for nonsense in (-1, -2.5, -(2**80), float("nan"), float("inf"), "7", None, True, [7])
        ),
    ],
)
def test_a_count_or_what_was_known_before(told: object, taken: int) -> None:
    assert count_of(told, known=3) == taken


def test_a_report_is_copied_only_if_it_lies() -> None:
    good = {"prompt_n": 5, "predicted_ms": -1.5}
    assert corrected(good, ("prompt_n", "cache_n")) is good
    lie = {"prompt_n": -5, "cache_n": "2", "predicted_ms": -1.5}
    assert corrected(lie, ("prompt_n", "cache_n")) == {
        "prompt_n": 0,
        "cache_n": 0,
        "predicted_ms": -1.5,
    }
    assert lie["prompt_n"] == -5


def test_counts_are_recognized_together() -> None:
    assert are_counts(0, 7, MOST_TOKENS)
    for lie in (-1, -(2**80), MOST_TOKENS + 1, 2**80, 7.0, "7", None, True, [7]):
        assert not are_counts(lie, 7, 7)
        assert not are_counts(7, lie, 7)
        assert not are_counts(7, 7, lie)
