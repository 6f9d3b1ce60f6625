"""Which model a request gets: the named one, an alias's, the default; never another silently."""

import pytest

from promptly.errors import UnsupportedEndpoint, UpstreamUnavailable
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.model_names import ModelNames
from promptly.gateway.upstream import EMBEDDINGS_PATH
from promptly.gateway.upstreams import UpstreamPool
from tests.support.servers import make_settings

ALIASES = {"gpt-4o-mini": "second", "gone": "removed", "shadow": "first", "nick": "big"}
CHAT = ChatRequest.path


def pool_of(*models: str, vectors: str = "", ready: bool = True) -> UpstreamPool:
    """Return a pool that has seen these models, the last one perhaps for embeddings alone."""
    pool = UpstreamPool(
        make_settings(
            llama_base_url=tuple(f"http://10.0.0.{number}" for number in range(len(models))),
            llama_embeddings_base_url=("http://10.0.1.1",) if vectors else (),
        )
    )
    names = [*models, vectors] if vectors else models
    for upstream, name in zip(pool.upstreams, names, strict=True):
        upstream.model, *others = name.split(",")
        upstream.aliases = tuple(others)
        upstream.ready, upstream.slots, upstream.n_ctx = ready, 1, 100
        upstream.probed_at = float("inf")
    return pool


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("", "first"),
        ("first", "first"),
        ("second", "second"),
        ("FIRST", "first"),
        ("gpt-5", "first"),
        ("gpt-4o-mini", "second"),
        # The server's own second name, and an alias of that.
        ("big", "second"),
        ("nick", "second"),
        # A name that the operator gave is never another model's, even if that is unknown.
        ("gone", "removed"),
        ("shadow", "first"),
    ],
)
def test_names(name: str, model: str) -> None:
    names = ModelNames(pool_of("first", "second,big", "shadow"), ALIASES, "")
    assert names.resolve(name, CHAT) == model


@pytest.mark.parametrize(
    ("default", "model"), [("", "first"), ("second", "second"), ("big", "second"), ("x", "x")]
)
def test_the_default(default: str, model: str) -> None:
    names = ModelNames(pool_of("first", "second,big"), ALIASES, default)
    assert names.resolve("gpt-5", CHAT) == names.default() == model


def test_the_default_stays_while_its_server_is_down() -> None:
    pool = pool_of("first", "second")
    pool.upstreams[0].ready = False
    names = ModelNames(pool, {}, "")
    assert names.resolve("", CHAT) == names.resolve("first", CHAT) == "first"
    with pytest.raises(UpstreamUnavailable, match="'first'"):
        pool.require(CHAT, "first")


def test_embeddings_have_a_default_of_their_own() -> None:
    names = ModelNames(pool_of("text", vectors="vectors"), {"ada": "vectors"}, "text")
    assert names.resolve("", CHAT) == "text"
    for name in ("", "other", "vectors", "ada"):
        assert names.resolve(name, EMBEDDINGS_PATH) == "vectors"
    for name in ("vectors", "ada"):
        with pytest.raises(UnsupportedEndpoint, match="'vectors'"):
            names.resolve(name, CHAT)


def test_a_server_for_text_may_serve_embeddings_too() -> None:
    pool = pool_of("text", vectors="vectors")
    names = ModelNames(pool, {}, "")
    # Its own server comes first, wherever it stands in the configuration.
    assert names.resolve("text-embedding-3-small", EMBEDDINGS_PATH) == "vectors"
    assert names.resolve("text", EMBEDDINGS_PATH) == "text"
    pool.lacks(pool.upstreams[0], EMBEDDINGS_PATH)
    with pytest.raises(UnsupportedEndpoint):
        names.resolve("text", EMBEDDINGS_PATH)


def test_no_model_is_known() -> None:
    with pytest.raises(UpstreamUnavailable):
        ModelNames(pool_of("", ready=False), {}, "").resolve("first", CHAT)
