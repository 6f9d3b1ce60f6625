from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account

MODEL = {
    "id": "sim-model",
    "object": "model",
    "created": 0,
    "owned_by": "promptly",
    "meta": {"n_ctx": 32768},
    "pricing": {"input": "1", "cached_input": "1", "output": "1"},
}


def test_loaded_models(client: Client) -> None:
    assert client.get("/v1/models").json == {"object": "list", "data": [MODEL]}
    assert client.get("/v1/models/sim-model").json == MODEL


@pytest.mark.parametrize("name", ["other", "a/b", "sim-model/", "x" * 500])
def test_an_unknown_model(client: Client, name: str) -> None:
    answer = client.get(f"/v1/models/{name}")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert len(answer.error["message"]) < 200


def test_a_key_for_a_model_is_not_repeated(client: Client) -> None:
    for method, status in (("GET", 404), ("PUT", 405)):
        answer = client.call(method, f"/v1/models/{client.key}")
        assert answer.status == status
        assert client.key.encode() not in answer.body


VERSION = {"anthropic-version": "2023-06-01"}


def anthropics(name: str, n_ctx: int) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": n_ctx,
        "max_tokens": n_ctx,
    }


def test_the_format_of_anthropics_api(client: Client) -> None:
    model = anthropics("sim-model", 32768)
    assert client.call("GET", "/v1/models", headers=VERSION).json == {
        "data": [model],
        "has_more": False,
        "first_id": "sim-model",
        "last_id": "sim-model",
    }
    assert client.call("GET", "/v1/models/sim-model", headers=VERSION).json == model
    for path, kind in (
        ("/v1/models/other", "not_found_error"),
        ("/v1/models?limit=0", "invalid_request_error"),
        ("/v1/models?limit=1001", "invalid_request_error"),
        ("/v1/models?limit=x", "invalid_request_error"),
    ):
        refused = client.call("GET", path, headers=VERSION)
        assert (refused.json["type"], refused.json["error"]["type"]) == ("error", kind)
        assert refused.json["request_id"] == refused.headers["request-id"]
    stranger = client.call("GET", "/v1/models", headers={**VERSION, "Authorization": "Bearer x"})
    assert stranger.json["error"]["type"] == "authentication_error"


@pytest.fixture
def three_models(
    make_gateway: MakeGateway, make_llama: MakeLlama, llama: SimulatedLlama, account: Account
) -> Iterator[anthropic.Anthropic]:
    others = [make_llama(alias=name).url for name in ("b-model", "a-model")]
    gateway = make_gateway(llama.url, *others)
    with anthropic.Anthropic(base_url=gateway.url, api_key=account.key) as sdk:
        yield sdk


def test_pages_of_models(three_models: anthropic.Anthropic) -> None:
    sdk, names = three_models, ["a-model", "b-model", "sim-model"]
    for limit in (1, 2, 3, 20):
        assert [model.id for model in sdk.models.list(limit=limit)] == names
    backwards = [model.id for model in sdk.models.list(limit=1, before_id="z")]
    assert backwards == names[::-1]
    page = sdk.models.list(after_id="a-model", before_id="sim-model")
    assert [model.id for model in page.data] == ["b-model"]
    gone = sdk.models.list(limit=1, after_id="a-model-that-is-gone")
    assert ([model.id for model in gone.data], gone.has_more) == (["b-model"], True)
    assert sdk.models.list(after_id="sim-model").data == []
    assert sdk.models.retrieve("b-model").max_input_tokens == 32768


def test_models_of_several_upstreams_are_named_once(
    make_gateway: MakeGateway, make_llama: MakeLlama, llama: SimulatedLlama, account: Account
) -> None:
    twin, other = make_llama(), make_llama(alias="another,more", ctx=1024)
    gateway = make_gateway(llama.url, twin.url, other.url)
    client = Client(gateway.url, account.key)
    models = {model["id"]: model["meta"] for model in client.get("/v1/models").json["data"]}
    assert models == {"sim-model": {"n_ctx": 32768}, "another": {"n_ctx": 1024}}
