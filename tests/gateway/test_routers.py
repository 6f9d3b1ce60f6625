"""Routers: each model that they list is an upstream; nothing is loaded unless it may be."""

import time
from collections.abc import Iterator

import pytest

from promptly.errors import UpstreamTimeout, UpstreamUnavailable
from promptly.gateway import probes as module
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.model_loading import ModelLoading
from promptly.gateway.model_names import ModelNames
from promptly.gateway.upstreams import UpstreamPool
from sandbox.llama import SimulatedLlama
from tests.support.books import wait_for
from tests.support.servers import make_settings

CHAT = ChatRequest.path
MODELS = ("alpha", "beta/1", "broken")


@pytest.fixture
def router() -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(models=MODELS, loaded=1, models_max=2, broken=("broken",)).start()
    yield server
    server.stop()


@pytest.fixture
def pool(router: SimulatedLlama, monkeypatch: pytest.MonkeyPatch) -> UpstreamPool:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.2)
    return UpstreamPool(make_settings(llama_base_url=(router.url,)))


def wait_until_loaded(loading: ModelLoading, model: str) -> None:
    for _ in loading.waits(CHAT, model):
        time.sleep(0.05)


def test_its_models_are_upstreams(router: SimulatedLlama, pool: UpstreamPool) -> None:
    [alpha] = pool.ready(CHAT)
    assert (alpha.model, alpha.n_ctx, alpha.slots) == ("alpha", 32768, 4)
    names = [
        router.url,
        *(f"{router.url}?model={name}" for name in ("alpha", "beta%2F1", "broken")),
    ]
    assert [up.name for up in pool.upstreams] == names
    assert [up.name for up in pool.servers] == names[:1]
    assert pool.ready(CHAT, "beta/1") == []
    with pytest.raises(UpstreamUnavailable, match=r"'beta/1' is not loaded"):
        pool.require(CHAT, "beta/1")
    resolve = ModelNames(pool, {"gpt": "beta/1"}, "").resolve
    assert [resolve(name, CHAT) for name in ("", "alpha", "gpt", "zzz")] == [
        *("alpha", "alpha", "beta/1", "alpha")
    ]
    assert router.totals()["loads"] == 0


def test_a_request_names_the_model_and_loads_nothing(
    router: SimulatedLlama, pool: UpstreamPool
) -> None:
    pool.ready(CHAT)
    alpha, beta = pool.upstreams[1:3]
    body = b'{"messages":[{"role":"user","content":"hello"}],"max_tokens":2}'
    with_stream = alpha.client.stream(CHAT, body)
    received = b""
    while (data := with_stream.read()) is not None:
        received += data
    with_stream.close()
    assert with_stream.status == 200 and b'"model":"alpha"' in received
    assert alpha.client.call("GET", "/slots")[0] == 200
    for status, answer in (
        beta.client.call("GET", "/props"),
        beta.client.call("POST", f"{CHAT}/input_tokens", body),
    ):
        assert (status, answer["error"]["message"]) == (400, "model is not loaded")
    assert router.totals()["loads"] == 0


def test_a_model_is_loaded_where_that_is_allowed(
    router: SimulatedLlama, pool: UpstreamPool
) -> None:
    pool.ready(CHAT)
    never, allowed = ModelLoading(pool, None), ModelLoading(pool, 30)
    assert not never.may_load(CHAT, "beta/1")
    assert list(never.waits(CHAT, "beta/1")) == []
    assert router.totals()["loads"] == 0
    assert not allowed.may_load(CHAT, "alpha")
    assert not allowed.may_load(CHAT, "zzz")
    assert allowed.may_load(CHAT, "beta/1")
    wait_until_loaded(allowed, "beta/1")
    assert [up.model for up in pool.ready(CHAT, "beta/1")] == ["beta/1"]
    with pytest.raises(UpstreamUnavailable, match="could not be loaded"):
        wait_until_loaded(allowed, "broken")
    assert router.totals()["loads"] == 2


def test_a_wait_for_a_model_is_bounded() -> None:
    slow = SimulatedLlama(models=("alpha", "beta"), loaded=1, load_seconds=60).start()
    try:
        pool = UpstreamPool(make_settings(llama_base_url=(slow.url,)))
        pool.ready(CHAT)
        with pytest.raises(UpstreamTimeout, match="within 0 s"):
            wait_until_loaded(ModelLoading(pool, 0), "beta")
    finally:
        slow.stop()


def test_a_router_that_goes_and_comes_back_as_another_server(
    router: SimulatedLlama, pool: UpstreamPool
) -> None:
    [alpha] = pool.ready(CHAT)
    router.stop()
    pool.probe(pool.servers[0])
    assert not alpha.ready and not pool.ready(CHAT)
    # Its models stay known: no other one may answer for them.
    assert ModelNames(pool, {}, "").resolve("beta/1", CHAT) == "beta/1"
    single = SimulatedLlama(port=router.port, alias="single").start()
    try:
        wait_for(lambda: [up.model for up in pool.ready(CHAT)] == ["single"], "the single model")
        assert len(pool.upstreams) == 1
    finally:
        single.stop()


def test_a_model_that_the_router_unloads(router: SimulatedLlama, pool: UpstreamPool) -> None:
    [alpha] = pool.ready(CHAT)
    assert pool.servers[0].client.call("POST", "/models/unload", b'{"model":"alpha"}')[0] == 200
    assert not pool.doubt(alpha)
    assert not alpha.is_loaded
