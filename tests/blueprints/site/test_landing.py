"""The landing page: the loaded models, and the first snippets to paste."""

from flask import Flask
from flask.testing import FlaskClient

from promptly.gateway import current_gateway
from promptly.prices import parse_prices
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.conftest import AppFactory
from tests.support import factories


def test_without_a_model(client: FlaskClient) -> None:
    page = client.get("/").get_data(as_text=True)
    assert "No model is available right now" in page
    assert 'model="default"' in page


def test_the_live_model_and_its_name(app_factory: AppFactory) -> None:
    name = "<b>a & 'b'</b>"
    llama = SimulatedLlama(alias=name).start()
    try:
        app = app_factory(llama_base_url=(llama.url,))
        page = app.test_client().get("/").get_data(as_text=True)
        assert "Online" in page and "<b>a" not in page
        assert (
            page.count("&lt;b&gt;a &amp; &#39;b&#39;&lt;/b&gt;") == 5
        )  # the status line and each snippet
        with app.app_context():
            assert current_gateway().pool.upstreams[0].model == name
    finally:
        llama.stop()


def test_the_snippets_name_the_default_model(app_factory: AppFactory) -> None:
    # The first one of the configuration, not of the alphabet.
    last, first = SimulatedLlama(alias="zeta").start(), SimulatedLlama(alias="alpha").start()
    try:
        app = app_factory(llama_base_url=(last.url, first.url))
        with app.app_context(), transaction():
            raw = factories.api_key(factories.user().id)[1]
        client = app.test_client()
        page = client.get("/").get_data(as_text=True)
        assert 'model="zeta"' in page and 'model="alpha"' not in page
        assert '<code class="breakable">alpha</code>' in page
        client.post("/session", data={"key": raw})
        assert "zeta" in client.get("/dashboard").get_data(as_text=True)
        facts = client.get("/AGENTS.md").get_data(as_text=True)
        assert "`zeta`, the default" in facts and "`alpha`, 32,768 tokens" in facts
    finally:
        last.stop()
        first.stop()


def test_a_server_for_embeddings_only_is_not_listed_as_a_model(app_factory: AppFactory) -> None:
    llama = SimulatedLlama(embeddings=True, alias="vectors").start()
    try:
        app = app_factory(llama_embeddings_base_url=(llama.url,))
        page = app.test_client().get("/").get_data(as_text=True)
        assert "No model is available" in page and "vectors" not in page
    finally:
        llama.stop()


def test_signed_in_users_are_not_asked_for_a_key(app: Flask, client: FlaskClient) -> None:
    assert 'id="key"' in client.get("/").get_data(as_text=True)
    with app.app_context(), transaction():
        _, raw = factories.api_key(factories.user("ada@example.com").id)
    client.post("/session", data={"key": raw})
    page = client.get("/").get_data(as_text=True)
    assert "You are signed in" in page and 'id="key"' not in page


def test_prices_only_where_models_have_their_own(app_factory: AppFactory) -> None:
    llama = SimulatedLlama(alias="big").start()
    try:
        app = app_factory(llama_base_url=(llama.url,), prices=parse_prices("big:150:25:333"))
        page = app.test_client().get("/").get_data(as_text=True)
        # The settings of a process that serves pages change nothing.
        assert "Prompt and answer tokens cost the same" in page and "Prompt, cached" not in page
        with app.app_context():
            current_gateway().price_list.put_in_force()
        page = app.test_client().get("/").get_data(as_text=True)
        assert "cost the same" not in page
        cells = ["<bdi>big</bdi>", "1,500,000", "250,000", "3,330,000"]
        assert [cell for cell in cells if cell not in page] == []
    finally:
        llama.stop()
