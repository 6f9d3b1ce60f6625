"""Several models: each request lands on the one that it names, in every dialect."""

from typing import Any

import pytest
import urllib3

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Client, sim
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway
from tests.support.stack import Stack

TEXTS = [{"role": "user", "content": "hello"}]
DIALECTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": TEXTS, "max_tokens": 3},
    "/v1/completions": {"prompt": "hello", "max_tokens": 3},
    "/v1/responses": {"input": "hello", "max_output_tokens": 3},
    "/v1/messages": {"messages": TEXTS, "max_tokens": 3},
}
COUNTS: dict[str, dict[str, Any]] = {
    f"{CHAT}/input_tokens": {"messages": TEXTS},
    "/v1/responses/input_tokens": {"input": "hello"},
    "/v1/messages/count_tokens": {"messages": TEXTS},
}


@pytest.fixture(scope="module")
def llamas(v1_stack: Stack) -> dict[str, SimulatedLlama]:
    """Model servers by their model; the last one is for embeddings."""
    return {
        "one": v1_stack.simulated_llama(alias="one", ctx=8192),
        "two": v1_stack.simulated_llama(alias="two", ctx=4096),
        "vectors": v1_stack.simulated_llama(alias="vectors", embeddings=True),
    }


@pytest.fixture(scope="module")
def several_gateway(v1_stack: Stack, llamas: dict[str, SimulatedLlama]) -> Gateway:
    return v1_stack.gateway(
        llamas["one"].url,
        llamas["two"].url,
        LLAMA_EMBEDDINGS_BASE_URL=llamas["vectors"].url,
        MODEL_ALIASES="gpt-4o-mini:two, ada:vectors, lost:nothing",
        DEFAULT_MODEL="one",
    )


@pytest.fixture
def several(
    several_gateway: Gateway, llamas: dict[str, SimulatedLlama], account: Account
) -> Client:
    for llama in llamas.values():
        llama.clear()
    return Client(several_gateway.url, account.key)


@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize(
    ("name", "model"), [("two", "two"), ("gpt-4o-mini", "two"), ("gpt-5", "one"), (None, "one")]
)
def test_the_named_model_answers(
    several: Client, llamas: dict[str, SimulatedLlama], path: str, name: str | None, model: str
) -> None:
    named = {} if name is None else {"model": name}
    answer = several.call("POST", path, {**DIALECTS[path], **named})
    assert (answer.status, answer.json["model"]) == (200, model)
    assert {key: len(llama.requests()) for key, llama in llamas.items()} == {
        key: int(key == model) for key in llamas
    }
    request_id = answer.headers["x-promptly-request-id"]
    receipt = several.get(f"/v1/usage?request_id={request_id}").json
    assert receipt["model"] == model


def test_counts_and_embeddings_of_the_named_model(
    several: Client, llamas: dict[str, SimulatedLlama]
) -> None:
    for path, body in COUNTS.items():
        assert several.call("POST", path, {**body, "model": "two"}).status == 200
    assert [llamas[name].totals()["counted"] for name in ("one", "two")] == [0, 3]
    for name in ("vectors", "ada", "text-embedding-3-small"):
        answer = several.call("POST", "/v1/embeddings", {"input": "hello", "model": name})
        assert (answer.status, answer.json["model"]) == (200, "vectors")
    chat = several.call("POST", CHAT, {**DIALECTS[CHAT], "model": "vectors"})
    assert (chat.status, chat.error["code"]) == (404, "unsupported_endpoint")


def test_of_servers_for_text_the_one_with_embeddings_is_found(
    make_gateway: MakeGateway, make_llama: MakeLlama, account: Account
) -> None:
    plain, able = make_llama(alias="plain"), make_llama(alias="able", embeddings=True)
    client = Client(make_gateway(plain.url, able.url).url, account.key)
    answer = client.call("POST", "/v1/embeddings", {"input": "hello"})
    assert (answer.status, answer.json["model"]) == (200, "able")
    answer = client.call("POST", "/v1/embeddings", {"input": "hello", "model": "plain"})
    assert (answer.status, answer.error["code"]) == (404, "unsupported_endpoint")


def test_an_alias_of_an_unknown_model_is_no_other_model(several: Client) -> None:
    answer = several.call("POST", CHAT, {**DIALECTS[CHAT], "model": "lost"})
    assert (answer.status, answer.error["code"]) == (503, "upstream_unavailable")
    assert "'nothing'" in answer.error["message"]


def test_the_list_has_models_and_aliases(several: Client) -> None:
    wait_for(lambda: len(several.get("/v1/models").json["data"]) == 5, "all servers were probed")
    data = several.get("/v1/models").json["data"]
    assert {entry["id"]: entry["meta"] for entry in data} == {
        "one": {"n_ctx": 8192},
        "two": {"n_ctx": 4096},
        "vectors": {"n_ctx": 32768},
        "gpt-4o-mini": {"n_ctx": 4096, "alias_of": "two"},
        "ada": {"n_ctx": 32768, "alias_of": "vectors"},
    }
    assert several.get("/v1/models/gpt-4o-mini").json["meta"]["alias_of"] == "two"
    anthropic = {"anthropic-version": "2023-06-01"}
    page = several.call("GET", "/v1/models", headers=anthropic).json
    assert {entry["id"] for entry in page["data"]} == {entry["id"] for entry in data}


def test_a_prompt_too_long_for_its_model(several: Client) -> None:
    long = [{"role": "user", "content": "word " * 6000}]
    answer = several.call("POST", CHAT, {"messages": long, "max_tokens": 3, "model": "two"})
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert "4096" in answer.error["message"]
    answer = several.call("POST", CHAT, {"messages": long, "max_tokens": 3})
    assert (answer.status, answer.json["model"]) == (200, "one")


def test_a_model_whose_servers_are_down_is_no_other_model(
    make_gateway: MakeGateway, make_llama: MakeLlama, account: Account, books: BooksReader
) -> None:
    one, two = make_llama(alias="one", slots=1), make_llama(alias="two", slots=1)
    gateway = make_gateway(one.url, two.url, KEEPALIVE_COMMENT_SECONDS=1)
    client = Client(gateway.url, account.key)
    assert client.call("POST", CHAT, {**DIALECTS[CHAT], "model": "two"}).json["model"] == "two"
    endless = sim("tokens=99999 delay_ms=5")
    with client.open(messages=endless, model="two") as running:
        running.read_until(b"content")
        with client.open(messages=TEXTS, model="two") as waiting:
            waiting.read_until(b": ")
            two.kill()
            # The one that waits hears of it as well, within a few comments: that no server is
            # left, or that its answer failed. A dying process closes its connections before it
            # stops listening, so the freed slot may lead to a server that takes one more request.
            waiting.read_until(b'"code":"upstream_')
    answer = client.call("POST", CHAT, {**DIALECTS[CHAT], "model": "two"})
    assert (answer.status, answer.error["code"]) == (503, "upstream_unavailable")
    assert client.call("POST", CHAT, DIALECTS[CHAT]).json["model"] == "one"
    # Nor for a gateway that starts meanwhile.
    newcomer = Client(make_gateway(one.url, two.url).url, account.key)
    answer = newcomer.call("POST", CHAT, {**DIALECTS[CHAT], "model": "two"})
    assert (answer.status, answer.error["code"]) == (503, "upstream_unavailable")
    assert "'two'" in answer.error["message"]
    listed = newcomer.get("/v1/models").json["data"]
    assert {entry["id"] for entry in listed} == {"one", "two"}
    # Another model in its place: the old one is unknown now, and gets the default.
    replaced = SimulatedLlama(port=two.port, alias="three").start()
    try:
        wait_for(lambda: client.get("/v1/models/three").status == 200, "the new model")
        answer = client.call("POST", CHAT, {**DIALECTS[CHAT], "model": "two"})
        assert answer.json["model"] == "one"
    finally:
        replaced.stop()
    wait_for(lambda: books.open_holds() == 0, "the end of all requests")


def test_a_long_prompt_goes_to_a_server_that_fits(
    make_gateway: MakeGateway, make_llama: MakeLlama, account: Account
) -> None:
    small, large = make_llama(ctx=1024), make_llama(ctx=16384)
    client = Client(make_gateway(small.url, large.url).url, account.key)
    assert client.get("/v1/models/sim-model").json["meta"]["n_ctx"] == 16384
    long = [{"role": "user", "content": "word " * 3000}]
    for body in (
        {"messages": long, "max_tokens": 5},
        # A short prompt whose answer may become long.
        {"messages": TEXTS, "max_tokens": 2000},
    ):
        for _ in range(3):
            assert client.call("POST", CHAT, body).status == 200
    assert (len(small.requests()), len(large.requests())) == (0, 6)
    # Its bytes are too many for the small one, but not its tokens: it is counted.
    middle = [{"role": "user", "content": "wonderful " * 150}]
    with client.open(messages=sim("tokens=9999 delay_ms=5")) as busy:
        busy.read_until(b"content")
        for _ in range(4):
            answer = client.call("POST", CHAT, {"messages": middle, "max_tokens": 5})
            assert answer.status == 200
    assert small.requests() and small.totals()["counted"] + large.totals()["counted"] >= 4
    answer = client.call("POST", CHAT, {"messages": [{"role": "user", "content": "word " * 20000}]})
    assert answer.error["code"] == "context_length_exceeded"
    assert "16384" in answer.error["message"]


@pytest.mark.exhaustive
def test_a_router(make_gateway: MakeGateway, make_llama: MakeLlama, account: Account) -> None:
    router = make_llama(models=("alpha", "beta"), loaded=1)
    client = Client(make_gateway(router.url).url, account.key)
    for name in ("alpha", "gpt-5"):
        for path, body in DIALECTS.items():
            answer = client.call("POST", path, {**body, "model": name})
            assert (answer.status, answer.json["model"]) == (200, "alpha")
    assert {record["body"]["model"] for record in router.requests()} == {"alpha"}
    answer = client.call("POST", CHAT, {**DIALECTS[CHAT], "model": "beta"})
    assert (answer.status, answer.error["message"]) == (503, "The model 'beta' is not loaded.")
    assert [entry["id"] for entry in client.get("/v1/models").json["data"]] == ["alpha"]
    # A model that the gateway still believes to be loaded.
    for path in (CHAT, f"{CHAT}/input_tokens"):
        for change in ("load", "unload"):
            wait_for(lambda: client.get("/v1/models/alpha").status == 200, "alpha is there")
            data = b'{"model":"alpha"}'
            urllib3.request("POST", f"{router.url}/models/{change}", body=data, retries=False)
        answer = client.call("POST", path, DIALECTS[CHAT])
        assert (answer.status, answer.error["code"]) == (503, "upstream_unavailable")
        urllib3.request("POST", f"{router.url}/models/load", body=data, retries=False)
    assert router.totals()["loads"] == 2


def test_a_router_that_may_load(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader
) -> None:
    router = make_llama(models=("alpha", "beta", "gamma"), loaded=1, load_seconds=1.5)
    gateway = make_gateway(router.url, ROUTER_AUTOLOAD="true", KEEPALIVE_COMMENT_SECONDS=1)
    rich, poor = (Client(gateway.url, books.account(paid).key) for paid in (1_000_000, 60))
    listed = rich.get("/v1/models").json["data"]
    assert {entry["id"]: entry["meta"] for entry in listed} == {
        "alpha": {"n_ctx": 32768},
        "beta": {},
        "gamma": {},
    }
    answer = rich.call("POST", CHAT, {**DIALECTS[CHAT], "model": "gpt-5"})
    assert (answer.json["model"], router.totals()["loads"]) == ("alpha", 0)
    answer = rich.call("POST", CHAT, {**DIALECTS[CHAT], "model": "beta", "stream": True})
    assert answer.status == 200
    # Comments while it loads.
    assert answer.parts[0].startswith(":")
    assert answer.events[0]["model"] == "beta"
    # A balance that needs the prompt counted: the count waits for the model, too.
    answer = poor.call("POST", CHAT, {**DIALECTS[CHAT], "model": "gamma"})
    assert (answer.status, answer.json["model"]) == (200, "gamma")
    assert router.totals()["loads"] == 2
