"""The dashboard's form for mail preferences."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from promptly.services.accounts import accounts
from promptly.services.mail import alerts
from promptly.services.mail.alerts import Choice
from promptly.transactions import transaction
from tests.support import factories

ADDRESS = "ada@example.com"


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    with app.app_context(), transaction():
        raw = factories.api_key(factories.user(ADDRESS).id)[1]
    client = app.test_client()
    client.post("/session", data={"key": raw})
    return client


def chosen(app: Flask) -> Choice:
    with app.app_context():
        return alerts.choice_of(accounts.find(email=ADDRESS), app.extensions["settings"])


def save(client: FlaskClient, **form: str) -> tuple[int, str]:
    token = client.get("/dashboard").text.split('name="csrf_token" value="')[1].split('"')[0]
    answer = client.post(
        "/dashboard/mails", data={"csrf_token": token, **form}, follow_redirects=True
    )
    return answer.status_code, answer.text


def test_default_choices(app: Flask, browser: FlaskClient) -> None:
    assert chosen(app) == Choice(50_000, trial_notice=True)
    page = browser.get("/dashboard").text
    assert 'name="low_balance" checked' in page and 'value="50,000"' in page
    assert 'name="trial_notice" checked' in page


@pytest.mark.parametrize(
    "entered", ["1250000", "1,250,000", " 1 250 000 ", "1.250.000", "1'250'000"]
)
def test_a_threshold(app: Flask, browser: FlaskClient, entered: str) -> None:
    status, page = save(browser, low_balance="on", low_balance_tokens=entered, trial_notice="on")
    assert status == 200 and "Saved." in page and 'value="1,250,000"' in page
    assert chosen(app) == Choice(1_250_000, trial_notice=True)


def test_switching_all_off(app: Flask, browser: FlaskClient) -> None:
    _, page = save(browser, low_balance_tokens="nonsense")
    assert 'name="low_balance">' in page and 'name="trial_notice">' in page
    assert chosen(app) == Choice(0, trial_notice=False)


@pytest.mark.parametrize("entered", ["", "0", "-5", "many", "1e6", "²", "9" * 19, "9" * 100, "<b>"])
def test_invalid_thresholds(app: Flask, browser: FlaskClient, entered: str) -> None:
    status, page = save(browser, low_balance="on", low_balance_tokens=entered)
    assert status == 400 and "Enter a number of tokens" in page and "<b>" not in page
    assert chosen(app) == Choice(50_000, trial_notice=True)


def test_security_alerts(app: Flask, browser: FlaskClient) -> None:
    assert 'name="security_notice" checked' in browser.get("/dashboard").text
    _, page = save(browser)
    assert 'name="security_notice" checked' in page, "a form of an older page has no such box"
    _, page = save(browser, offers_security_notice="1")
    assert 'name="security_notice">' in page
    _, page = save(browser, offers_security_notice="1", security_notice="on")
    assert 'name="security_notice" checked' in page


def test_a_form_without_its_token(app: Flask, browser: FlaskClient) -> None:
    assert browser.post("/dashboard/mails", data={}).status_code == 400
    assert chosen(app) == Choice(50_000, trial_notice=True)
