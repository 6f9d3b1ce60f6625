"""Registration with a proof of work: REGISTRATION_CHALLENGE=altcha."""

import re
import subprocess
import sys

import altcha
import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, expect

from promptly.blueprints.site import registration
from promptly.extensions import db
from promptly.models import User
from promptly.services.accounts import challenges
from tests.conftest import AppFactory


@pytest.fixture
def app(app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr(registration, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(challenges, "COST", 300)
    return app_factory(registration_challenge="altcha", registration_rate_limit=2)


def solution(client: FlaskClient) -> str:
    answer = client.get("/register/challenge")
    assert answer.headers["Cache-Control"] == "no-store"
    challenge = altcha.Challenge.from_dict(answer.get_json())
    solved = altcha.solve_challenge(challenge)
    assert solved is not None
    return altcha.Payload(challenge, solved).to_base64()


def addresses(app: Flask) -> list[str]:
    with app.app_context():
        return [user.email for user in db.session.query(User).order_by(User.id)]


def test_a_script_registers_with_a_solution(app: Flask) -> None:
    client = app.test_client()
    form = {"email": "ada@example.com", "altcha": solution(client)}
    assert client.post("/register", data=form).status_code == 200
    again = client.post("/register", data=form | {"email": "eve@example.com"})
    assert again.status_code == 400 and "used already" in again.text
    assert 'value="eve@example.com"' in again.text
    assert addresses(app) == ["ada@example.com"]


def test_without_a_solution_nothing_happens(app: Flask) -> None:
    client = app.test_client()
    for _ in range(4):
        missing = client.post("/register", data={"email": "ada@example.com"})
        assert missing.status_code == 400 and "needs a solved challenge" in missing.text
        wrong = client.post("/register", data={"email": "ada@example.com", "altcha": "AAAA"})
        assert wrong.status_code == 400 and "not solved correctly" in wrong.text
    assert addresses(app) == []
    # None of these counts as a registration.
    form = {"email": "ada@example.com", "altcha": solution(client)}
    assert client.post("/register", data=form).status_code == 200


def test_a_mistyped_address_does_not_spend_the_solution(app: Flask) -> None:
    client = app.test_client()
    form = {"email": "ada@", "altcha": solution(client)}
    assert client.post("/register", data=form).status_code == 400
    assert client.post("/register", data=form | {"email": "ada@example.com"}).status_code == 200


def test_none_is_the_default(app_factory: AppFactory) -> None:
    client = app_factory().test_client()
    assert client.get("/register/challenge").status_code == 404
    page = client.get("/register").text
    assert "altcha" not in page and "challenge" not in page
    assert "curl -d email=" in client.get("/AGENTS.md").text


def test_the_script_for_agents_registers(app: Flask, address: str) -> None:
    text = app.test_client().get("/AGENTS.md").text
    assert "curl -d email=" not in text
    found = re.search(r"```python\n(import base64.*?)```", text, re.DOTALL)
    assert found is not None
    script = found[1].replace("http://127.0.0.1:8503", address)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert addresses(app) == ["you@example.com"]


@pytest.mark.browser
def test_a_browser_solves_it(app: Flask, address: str, browser: Browser) -> None:
    page: Page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda problem: problems.append(str(problem)))
    page.goto(f"{address}/register")
    page.get_by_label("Email address").fill("ada@example.com")
    page.get_by_role("button", name="Email me a key").click()
    page.get_by_role("heading", name="Check your email").wait_for()
    # Back in the browser's history, the form solves another one.
    page.go_back()
    page.get_by_label("Email address").fill("eve@example.com")
    page.get_by_label("Email address").press("Enter")
    page.get_by_role("heading", name="Check your email").wait_for()
    assert addresses(app) == ["ada@example.com", "eve@example.com"]
    assert problems == []
    page.close()


@pytest.mark.browser
def test_a_browser_says_what_is_wrong(address: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{address}/register")
    page.route("**/register/challenge", lambda route: route.abort())
    button = page.get_by_role("button", name="Email me a key")
    page.get_by_label("Email address").fill("ada@example.com")
    button.click()
    expect(page.get_by_role("status")).to_contain_text("could not be loaded")
    page.unroute("**/register/challenge")
    button.click()
    page.get_by_role("heading", name="Check your email").wait_for()
    page.close()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/register")
    assert page.get_by_text("That needs JavaScript").is_visible()
    page.get_by_label("Email address").fill("ada@example.com")
    page.get_by_role("button", name="Email me a key").click()
    assert "needs a solved challenge" in page.get_by_role("alert").inner_text()
    context.close()
