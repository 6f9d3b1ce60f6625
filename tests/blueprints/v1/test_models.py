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
}


def test_loaded_models(client: Client) -> None:
    assert client.get("/v1/models").json == {"object": "list", "data": [MODEL]}
    assert client.get("/v1/models/sim-model").json == MODEL


@pytest.mark.parametrize("name", ["other", "a/b", "sim-model/", "x" * 500])
def test_an_unknown_model(client: Client, name: str) -> None:
    answer = client.get(f"/v1/models/{name}")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert len(answer.error["message"]) < 200


def test_models_of_several_upstreams_are_named_once(
    make_gateway: MakeGateway, make_llama: MakeLlama, llama: SimulatedLlama, account: Account
) -> None:
    twin, other = make_llama(), make_llama(alias="another,more", ctx=1024)
    gateway = make_gateway(llama.url, twin.url, other.url)
    client = Client(gateway.url, account.key)
    models = {model["id"]: model["meta"] for model in client.get("/v1/models").json["data"]}
    assert models == {"sim-model": {"n_ctx": 32768}, "another": {"n_ctx": 1024}}
