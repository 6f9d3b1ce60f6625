"""Slots of a drained server are given to nobody, and those who wait for them go elsewhere."""

from promptly.gateway.prefix_chain import PrefixLink
from promptly.gateway.upstreams import UpstreamPool
from tests.gateway.conftest import MakeLlama
from tests.gateway.slots.conftest import granted, scheduler_on
from tests.gateway.slots.test_report import finish
from tests.support.books import wait_for
from tests.support.servers import make_settings
from tests.support.slots import name_slots

# So long that its reading takes longer than any wait for the slot that has it.
TOKENS = 100_000
CHAIN = (PrefixLink("long", TOKENS),)


def test_those_who_wait_for_a_cache_on_it_go_elsewhere(
    make_llama: MakeLlama, redis_url: str
) -> None:
    llamas = [make_llama(slots=1), make_llama(slots=1)]
    pool = UpstreamPool(make_settings(llama_base_url=tuple(llama.url for llama in llamas)))
    scheduler = scheduler_on(redis_url, pool)
    pair = [scheduler.request(9), scheduler.request(9)]
    assert all(map(granted, pair))
    for slot_request in pair:
        scheduler.release(slot_request)
    for llama in llamas:
        name_slots(redis_url, llama.url)

    def named() -> bool:
        probe = scheduler.request(9)
        assert granted(probe)
        scheduler.release(probe)
        return all(server.named for server in scheduler.report().servers.values())

    wait_for(named, "the slots are known")
    first = scheduler.request(7, prompt_tokens=TOKENS, chain=CHAIN)
    lease = granted(first)
    assert lease is not None and lease.slot == 0
    finish(scheduler, first)
    holder = scheduler.request(7, prompt_tokens=TOKENS, chain=CHAIN)
    lease = granted(holder)
    assert lease is not None and lease.reuses_cache
    waiting = scheduler.request(7, prompt_tokens=TOKENS, chain=CHAIN)
    wait_for(lambda: waiting.queued, "it waits for the slot with its cache")
    assert not waiting.changed.wait(0.5), "though another one is free"
    lease.upstream.drained = True
    elsewhere = granted(waiting)
    assert elsewhere is not None and elsewhere.upstream is not lease.upstream
    # The one that runs goes on, and nobody gets its slot afterwards.
    assert scheduler.report().servers[lease.upstream.name].running == 1
    late = scheduler.request(8)
    scheduler.release(holder)
    wait_for(lambda: scheduler.report().servers[lease.upstream.name].running == 0, "it has ended")
    assert not late.changed.is_set()
    scheduler.release(waiting)
    last = granted(late)
    assert last is not None and last.upstream is elsewhere.upstream
    scheduler.release(late)
