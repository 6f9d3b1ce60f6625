import gevent
import pytest

from promptly.runtime.early_timeout import EarlyTimeout


def test_a_wait_ends_early() -> None:
    limit = EarlyTimeout(60)
    gevent.spawn(limit.cut)
    with pytest.raises(EarlyTimeout) as raised, limit:
        gevent.sleep(30)
    assert raised.value is limit


def test_a_wait_that_has_ended_is_not_hit_in_the_next_one() -> None:
    with EarlyTimeout(60) as limit:
        limit.cut()
    gevent.sleep(0.01)
