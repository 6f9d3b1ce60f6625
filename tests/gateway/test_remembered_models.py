"""The models of servers that are away are known from what gateways saw before."""

import pytest
from flask import Flask

from promptly.errors import UpstreamUnavailable
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.model_names import ModelNames
from promptly.gateway.upstreams import UpstreamPool
from promptly.runtime.database import HotPathDatabase
from sandbox.llama import SimulatedLlama
from tests.gateway.conftest import Cuttable, MakeLlama
from tests.support.books import wait_for
from tests.support.servers import make_settings

CHAT = ChatRequest.path
AGE = "UPDATE upstream_models SET written_at = now() - interval '2 days' RETURNING url"


@pytest.fixture
def database(app: Flask) -> HotPathDatabase:
    found: HotPathDatabase = app.extensions["hot_path_database"]
    return found


def pool_of(database: HotPathDatabase | None, *servers: SimulatedLlama) -> UpstreamPool:
    """Return a new process' pool, which has probed its servers."""
    pool = UpstreamPool(
        make_settings(llama_base_url=tuple(server.url for server in servers)), database
    )
    pool.ready(CHAT)
    return pool


def remembered(database: HotPathDatabase) -> set[str]:
    return {url for (url,) in database.fetch_all("SELECT url FROM upstream_models", {})}


def test_a_model_whose_server_was_down_at_the_start(
    database: HotPathDatabase, make_llama: MakeLlama
) -> None:
    one, two = make_llama(alias="one"), make_llama(alias="two,second", ctx=4096)
    pool_of(database, one, two)
    two.kill()
    pool = pool_of(database, one, two)
    assert [up.model for up in pool.ready(CHAT)] == ["one"]
    names = ModelNames(pool, {}, "")
    assert names.resolve("two", CHAT) == names.resolve("second", CHAT) == "two"
    assert names.resolve("gpt-5", CHAT) == "one"
    with pytest.raises(UpstreamUnavailable, match="'two'"):
        pool.require(CHAT, "two")
    assert {up.model: up.n_ctx for up in pool.held()} == {"one": 32768, "two": 4096}
    two.start()
    assert pool.probe(pool.servers[1])
    assert [up.model for up in pool.require(CHAT, "two")] == ["two"]


def test_the_default_is_the_first_server_s_model_while_that_is_down(
    database: HotPathDatabase, make_llama: MakeLlama
) -> None:
    one, two = make_llama(alias="one"), make_llama(alias="two")
    pool_of(database, one, two)
    one.set_faults(loading=True)
    assert ModelNames(pool_of(database, one, two), {}, "").default() == "one"


def test_another_model_replaces_the_remembered_one(
    database: HotPathDatabase, make_llama: MakeLlama
) -> None:
    llama = make_llama(alias="before")
    pool_of(database, llama)
    llama.stop()
    after = SimulatedLlama(port=llama.port, alias="after").start()
    pool = pool_of(database, after)
    after.stop()
    pool.probe(pool.servers[0])
    for known in (pool, pool_of(database, after)):
        assert [up.model for up in known.held()] == ["after"]


def test_models_of_a_router(database: HotPathDatabase, make_llama: MakeLlama) -> None:
    router = make_llama(models=("alpha", "beta"), loaded=1)
    pool_of(database, router)
    router.stop()
    pool = pool_of(database, router)
    assert [up.model for up in pool.upstreams] == ["", "alpha", "beta"]
    assert ModelNames(pool, {}, "").resolve("beta", CHAT) == "beta"
    # Nobody knows which of them are loaded.
    assert pool.held() == []
    with pytest.raises(UpstreamUnavailable, match=r"'beta' is ready"):
        pool.require(CHAT, "beta")
    single = SimulatedLlama(port=router.port, alias="single").start()
    try:
        assert pool.probe(pool.servers[0])
        assert [up.model for up in pool.upstreams] == ["single"]
    finally:
        single.stop()


def test_servers_that_are_configured_no_more_are_forgotten_after_a_day(
    database: HotPathDatabase, make_llama: MakeLlama
) -> None:
    one, two = make_llama(alias="one"), make_llama(alias="two")
    pool_of(database, one, two)
    pool = pool_of(database, one)
    assert [up.model for up in pool.held()] == ["one"]
    assert remembered(database) == {one.url, two.url}
    database.fetch_all(AGE, {})
    pool_of(database, one)
    assert remembered(database) == {one.url}


def test_without_postgresql_nothing_is_remembered_but_all_is_served(
    cuttable: Cuttable, make_llama: MakeLlama
) -> None:
    llama = make_llama(alias="one")
    cuttable.proxy.shut()
    pool = pool_of(cuttable.database, llama)
    assert [up.model for up in pool.ready(CHAT)] == ["one"]
    cuttable.proxy.open()
    [server] = pool.servers

    def is_written() -> bool:
        return pool.probe(server) and remembered(cuttable.database) == {llama.url}

    wait_for(is_written, "a later probe writes it")
