"""A queue for each model: none blocks another's, and none outlives its model for long."""

import pytest

from promptly.errors import UpstreamUnavailable
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.slots.scheduler import SlotScheduler
from promptly.gateway.upstreams import UpstreamPool
from sandbox.llama import SimulatedLlama
from tests.gateway.conftest import MakeLlama
from tests.gateway.slots.conftest import granted, scheduler_on
from tests.support.books import wait_for
from tests.support.servers import make_settings

CHAT = ChatRequest.path


@pytest.fixture
def two_models(
    make_llama: MakeLlama, redis_url: str
) -> tuple[SlotScheduler, SimulatedLlama, SimulatedLlama]:
    """A scheduler, and two servers with a slot each, which hold the models `one` and `two`."""
    one, two = make_llama(slots=1, alias="one"), make_llama(slots=1, alias="two")
    pool = UpstreamPool(make_settings(llama_base_url=(one.url, two.url)))
    return scheduler_on(redis_url, pool, max_queued=1), one, two


def test_a_full_model_does_not_block_another(
    two_models: tuple[SlotScheduler, SimulatedLlama, SimulatedLlama],
) -> None:
    scheduler, one, two = two_models
    first = scheduler.request(1, CHAT, model="one")
    lease = granted(first)
    assert lease is not None and lease.upstream.name == one.url
    waiting = scheduler.request(1, CHAT, model="one")
    wait_for(lambda: waiting.queued, "the second request in line")
    other = scheduler.request(1, CHAT, model="two")
    lease = granted(other)
    assert lease is not None and lease.upstream.name == two.url
    assert waiting.lease is None
    wait_for(lambda: scheduler.occupancy().waiting == 1, "the only one that waits")
    assert scheduler.held() == 2
    # One place in each queue.
    another = scheduler.request(2, CHAT, model="two")
    wait_for(lambda: scheduler.occupancy().waiting == 2, "one in each queue")
    for slot_request in (first, other):
        scheduler.release(slot_request)
    assert granted(waiting) and granted(another)
    for slot_request in (waiting, another):
        scheduler.release(slot_request)


def test_queues_end_with_their_models(
    two_models: tuple[SlotScheduler, SimulatedLlama, SimulatedLlama],
) -> None:
    scheduler, one, _ = two_models
    taken = scheduler.request(1, CHAT, model="one")
    assert granted(taken)
    scheduler.release(taken)
    wait_for(lambda: all(queue.is_idle for queue in scheduler._queues.values()), "nothing to do")
    pool = scheduler._pool
    one.stop()
    replaced = SimulatedLlama(port=one.port, alias="new").start()
    try:
        pool.probe(pool.upstreams[0])
        with pytest.raises(UpstreamUnavailable):
            scheduler.request(1, CHAT, model="one")
        other = scheduler.request(1, CHAT, model="new")
        assert granted(other)
        assert [queue.model for queue in scheduler._queues.values()] == ["new"]
        scheduler.release(other)
    finally:
        replaced.stop()
