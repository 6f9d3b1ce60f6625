"""llama-server in router mode: each model answers under its name, and nothing else is loaded."""

from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from promptly.clients.llama import LlamaClient
from promptly.secret import Secret
from sandbox.real_llama import RealRouter
from tests.blueprints.v1.client import CHAT, Client
from tests.support.books import BooksReader, wait_for
from tests.support.stack import Stack

pytestmark = pytest.mark.real_llama

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRouter]:
    server = RealRouter(tmp_path_factory.mktemp("router"), ("alpha", "beta", "gamma"))
    server.start()
    yield server
    server.stop()


def states(router: RealRouter) -> dict[str, str]:
    answer = urllib3.request("GET", f"{router.url}/v1/models", retries=False, timeout=5.0).json()
    return {entry["id"]: entry["status"]["value"] for entry in answer["data"]}


def test_models_of_a_router(router: RealRouter, stack: Stack, books: BooksReader) -> None:
    loader = LlamaClient(router.url, Secret(""), 5)
    assert loader.call("POST", "/models/load", b'{"model":"beta"}')[0] == 200
    wait_for(lambda: states(router)["beta"] == "loaded", "the model")
    account = books.account()
    fixed = Client(stack.gateway(router.url).url, account.key)
    for name in ("beta", "gpt-5"):
        answer = fixed.call("POST", CHAT, {**BODY, "model": name})
        assert (answer.status, answer.json["model"]) == (200, "beta")
    answer = fixed.call("POST", f"{CHAT}/input_tokens", BODY)
    assert answer.json["input_tokens"] > 0
    assert fixed.get("/v1/models").json["data"][0]["meta"]["n_ctx"] == router.ctx
    answer = fixed.call("POST", CHAT, {**BODY, "model": "alpha"})
    assert (answer.status, answer.error["message"]) == (503, "The model 'alpha' is not loaded.")
    assert states(router) == {"alpha": "unloaded", "beta": "loaded", "gamma": "unloaded"}
    loads = Client(stack.gateway(router.url, ROUTER_AUTOLOAD="true").url, account.key)
    answer = loads.call("POST", CHAT, {**BODY, "model": "alpha", "stream": True})
    assert (answer.status, answer.events[0]["model"]) == (200, "alpha")
    assert states(router) == {"alpha": "loaded", "beta": "loaded", "gamma": "unloaded"}
