import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from promptly import errors
from sandbox.llama import SimulatedLlama
from tests.conftest import AppFactory

PATHS = ("/AGENTS.md", "/llms.txt")


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    return app_factory(
        base_url="https://api.example.com",
        trial_tokens=12_345,
        trial_expiry_days=9,
        inference_user_rate_limit=77,
        max_concurrent_requests=5,
    )


@pytest.mark.parametrize("path", PATHS)
def test_it_has_the_values_of_this_installation(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    text = answer.get_data(as_text=True)
    for value in ("https://api.example.com/v1", "https://api.example.com/dashboard", "12,345",
                  "9 days", "77", "5", "25,000,000", "$2.00"):  # fmt: skip
        assert value in text, value
    assert "127.0.0.1" not in text and "{{" not in text and "{%" not in text
    assert "&#34;" not in text and "&amp;" not in text, "Markdown is not escaped as HTML is"


def test_types_and_caching(client: FlaskClient) -> None:
    for path, kind in zip(PATHS, ("text/markdown", "text/plain"), strict=True):
        answer = client.get(path)
        assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        assert "Vary" not in answer.headers
        again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304


def test_it_names_the_loaded_model(
    app_factory: AppFactory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("llama")
    llama = SimulatedLlama(folder, alias="river-9b", ctx=54_321).start()
    try:
        client = app_factory(llama_base_url=(llama.url,)).test_client()
        assert "`river-9b`, the default, 54,321 tokens" in client.get("/AGENTS.md").get_data(
            as_text=True
        )
        assert "`river-9b` (the default) with 54321 tokens" in client.get("/llms.txt").get_data(
            as_text=True
        )
    finally:
        llama.stop()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("profile", "subject"), [("text", "text only"), ("tools", "text and function tools")]
)
def test_it_says_what_responses_take(
    app_factory: AppFactory, path: str, profile: str, subject: str
) -> None:
    client = app_factory(responses_profile=profile).test_client()
    assert f"OpenAI Responses, {subject}" in client.get(path).get_data(as_text=True)
    described = client.get("/openapi.json").get_json()["paths"]["/v1/responses"]["post"]
    assert ("function tools" in described["description"]) == (profile == "tools")


@pytest.mark.parametrize("path", PATHS)
def test_it_names_every_endpoint(app: Flask, client: FlaskClient, path: str) -> None:
    text = client.get(path).get_data(as_text=True)
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/v1/") and "<" not in rule.rule:
            assert rule.rule in text, rule.rule


def test_it_says_what_to_do_about_every_error(client: FlaskClient) -> None:
    text = client.get("/AGENTS.md").get_data(as_text=True)
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.PromptlyError) and kind.code:
            assert f"| {kind.status} |" in text
            assert f"`{kind.code}`" in text


def test_llms_has_the_form_of_its_convention(client: FlaskClient) -> None:
    lines = client.get("/llms.txt").get_data(as_text=True).splitlines()
    assert lines[0] == "# promptly"
    assert lines[2].startswith("> ")
    assert not any(line.startswith("###") for line in lines)
    sections = [number for number, line in enumerate(lines) if line.startswith("## ")]
    assert len(sections) >= 3
    for line in lines[sections[0] :]:
        assert not line or re.match(r"(## .|- \[.+\]\(https://api\.example\.com/.+\))", line), line


def test_every_link_of_llms_is_there(client: FlaskClient) -> None:
    text = client.get("/llms.txt").get_data(as_text=True)
    targets = re.findall(r"\]\(https://api\.example\.com(/.+?)\)", text)
    for target in set(targets):
        answer = client.get(target)
        assert answer.status_code == 200, target
        assert answer.mimetype == "text/markdown" or target == "/openapi.json", target
