import json
import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from promptly.blueprints import error_handlers
from promptly.errors import (
    Forbidden,
    InsufficientQuota,
    InvalidKey,
    TokensReserved,
    UnsupportedParameter,
)
from tests.conftest import AppFactory


@pytest.fixture
def failing(app: Flask) -> FlaskClient:
    problems = {
        "quota": InsufficientQuota("Top up."),
        "reserved": TokensReserved("Wait.", retry_after_seconds=7),
        "field": UnsupportedParameter("n"),
        "bug": ZeroDivisionError("a secret detail"),
        "key": InvalidKey(),
        "forbidden": Forbidden(),
    }

    def fail(name: str) -> str:
        raise problems[name]

    for prefix in ("", "/v1", "/v1/messages"):
        app.add_url_rule(f"{prefix}/fail/<name>", f"fail{prefix}", fail)
    return app.test_client()


@pytest.mark.parametrize(
    ("name", "status", "kind", "code", "param"),
    [
        ("quota", 402, "insufficient_quota", "insufficient_quota", None),
        ("reserved", 429, "tokens", "tokens_reserved", None),
        ("field", 400, "invalid_request_error", "unsupported_parameter", "n"),
        ("bug", 500, "server_error", None, None),
    ],
)
def test_errors_of_the_api(
    failing: FlaskClient, name: str, status: int, kind: str, code: str | None, param: str | None
) -> None:
    answer = failing.get(f"/v1/fail/{name}")
    assert answer.status_code == status
    error = json.loads(answer.data)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"], error["param"]) == (kind, code, param)
    assert answer.headers["x-request-id"].startswith("req_")
    assert "secret" not in error["message"]


@pytest.mark.parametrize(
    ("path", "status", "kind", "code", "message"),
    [
        ("fail/quota", 402, "billing_error", "insufficient_quota", "Top up."),
        ("fail/reserved", 429, "rate_limit_error", "tokens_reserved", "Wait."),
        (
            "fail/field",
            400,
            "invalid_request_error",
            "unsupported_parameter",
            "n: Unsupported parameter: 'n'",
        ),
        ("fail/bug", 500, "api_error", None, "The server had an error."),
        ("nothing", 404, "not_found_error", "unknown_url", "Unknown request URL: GET /v1/mess"),
    ],
)
def test_errors_of_anthropics_api(
    failing: FlaskClient, path: str, status: int, kind: str, code: str | None, message: str
) -> None:
    answer = failing.get(f"/v1/messages/{path}")
    assert answer.status_code == status
    body = json.loads(answer.data)
    assert body["type"] == "error"
    error = body["error"]
    assert error["type"] == kind
    assert error["message"].startswith(message)
    assert error.get("details") == ({"error_code": code} if code else None)
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]


def test_the_shape_is_that_of_the_path_itself(failing: FlaskClient) -> None:
    for path in ("/v1/messages", "/v1/messages/"):
        assert json.loads(failing.delete(path).data)["type"] == "error"
    answer = failing.get("/v1/messages_of_others")
    assert set(json.loads(answer.data)) == {"error"}
    assert "request-id" not in answer.headers


def test_headers_of_errors(failing: FlaskClient) -> None:
    for prefix in ("/v1", "/v1/messages"):
        for name in ("quota", "key", "forbidden"):
            assert failing.get(f"{prefix}/fail/{name}").headers["x-should-retry"] == "false"
    assert "x-should-retry" not in failing.get("/v1/fail/reserved").headers
    assert failing.get("/v1/fail/reserved").headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/v1/nothing", "GET", 404, "unknown_url"),
        ("/v1/nothing", "POST", 404, "unknown_url"),
        ("/v1", "GET", 404, "unknown_url"),
        ("/v1/fail/quota", "DELETE", 405, "method_not_allowed"),
    ],
)
def test_unknown_urls_and_methods(
    failing: FlaskClient, path: str, method: str, status: int, code: str
) -> None:
    answer = failing.open(path, method=method)
    assert answer.status_code == status
    assert json.loads(answer.data)["error"]["code"] == code
    assert answer.headers["x-request-id"].startswith("req_")


KEY = {"Authorization": "Bearer sk-x"}
ANTHROPIC = {"x-api-key": "sk-x", "anthropic-version": "2023-06-01"}
IN_V1 = "The base URL ends in /v1."
BEFORE_V1 = "The base URL of Anthropic's clients ends before /v1."


@pytest.mark.parametrize(
    ("path", "headers", "hint"),
    [
        ("/chat/completions", KEY, f"Did you mean /v1/chat/completions? {IN_V1}"),
        ("/v1/v1/chat/completions", KEY, f"Did you mean /v1/chat/completions? {IN_V1}"),
        ("/v1/chat/completions/", KEY, f"Did you mean /v1/chat/completions? {IN_V1}"),
        ("/openai/v1/responses", KEY, f"Did you mean /v1/responses? {IN_V1}"),
        ("/completions", KEY, f"Did you mean /v1/completions? {IN_V1}"),
        ("/v1/v1/messages", ANTHROPIC, f"Did you mean /v1/messages? {BEFORE_V1}"),
        (
            "/messages/count_tokens",
            ANTHROPIC,
            f"Did you mean /v1/messages/count_tokens? {BEFORE_V1}",
        ),
        ("/v1/v1/models", ANTHROPIC, f"Did you mean /v1/models? {BEFORE_V1}"),
        ("/api/generate", KEY, "The API is below /v1, for example /v1/models."),
        ("/", KEY, "The API is below /v1, for example /v1/models."),
        ("/v1/images/generations", KEY, ""),
        ("/v1/threads/a/messages", KEY, ""),
    ],
)
def test_a_program_with_a_wrong_base_url(
    failing: FlaskClient, path: str, headers: dict[str, str], hint: str
) -> None:
    answer = failing.post(path, json={}, headers=headers)
    body = json.loads(answer.data)
    assert body["error"]["message"].endswith(hint or f"POST {path}.")
    assert answer.headers["x-request-id"].startswith("req_")
    if headers is ANTHROPIC:
        assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
        assert body["request_id"] == answer.headers["request-id"]
    else:
        unknown = path != "/"
        assert answer.status_code == (404 if unknown else 405)
        assert body["error"]["code"] == ("unknown_url" if unknown else "method_not_allowed")


def test_a_key_in_a_path_is_not_repeated(failing: FlaskClient) -> None:
    key = f"sk-{'a' * 46}"
    for path, method, status in [
        (f"/v1/{key}", "GET", 404),
        (f"/{key}/chat/completions", "GET", 404),
        (f"/v1//{key}", "GET", 404),
        (f"/v1/models/{key}", "PUT", 405),
    ]:
        answer = failing.open(path, method=method, headers=KEY)
        assert answer.status_code == status
        message = json.loads(answer.data)["error"]["message"]
        assert f"{key[:12]}…" in message and key not in message


@pytest.mark.parametrize(
    ("headers", "data", "kind"),
    [
        ({}, None, "text/html"),
        ({"Authorization": "Basic eDp5"}, None, "text/html"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "a=b", "text/html"),
        ({"Authorization": "bearer x"}, None, "application/json"),
        ({"x-api-key": "x"}, None, "application/json"),
        ({"Content-Type": "application/json; charset=utf-8"}, "{", "application/json"),
    ],
)
def test_who_gets_json_outside_of_the_api(
    failing: FlaskClient, headers: dict[str, str], data: str | None, kind: str
) -> None:
    for path in ("/nothing", "/nothing//", "/register/x"):
        answer = failing.post(path, headers=headers, data=data)
        assert (answer.status_code, answer.mimetype) == (404, kind)
    # Only a wrong URL: a page's other errors stay pages.
    assert failing.get("/fail/field", headers=headers, data=data).mimetype == "text/html"


def test_pages_of_errors(failing: FlaskClient) -> None:
    for path, method, status in [
        ("/nothing", "GET", 404),
        ("/register", "DELETE", 405),
        ("/fail/field", "GET", 400),
        ("/fail/bug", "GET", 500),
    ]:
        answer = failing.open(path, method=method)
        page = answer.get_data(as_text=True)
        assert answer.status_code == status
        assert answer.mimetype == "text/html" and "secret" not in page
        assert "Content-Security-Policy" in answer.headers
        shown = answer.headers["x-request-id"] in page
        assert shown is (status == 500)


def test_a_page_says_when_to_come_back(failing: FlaskClient) -> None:
    page = failing.get("/fail/reserved").get_data(as_text=True)
    assert "Try again in <strong>7 seconds</strong>" in page
    assert "Try again in" not in failing.get("/fail/field").get_data(as_text=True)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 second"),
        (1, "1 second"),
        (119, "119 seconds"),
        (121, "3 minutes"),
        (3600, "60 minutes"),
        (7201, "3 hours"),
        (None, None),
    ],
)
def test_how_long_to_wait(seconds: int | None, words: str | None) -> None:
    assert error_handlers.wait_in_words(seconds) == words


def test_no_path_becomes_a_link(failing: FlaskClient) -> None:
    """A typed path must never become a link: `//host` would lead to another site."""
    path = {"PATH_INFO": '//evil.example/"><script>'}
    answer = failing.get("/", environ_overrides=path)
    assert answer.headers.get("Location", "/evil").startswith("/evil")
    assert "//evil" not in answer.get_data(as_text=True)
    # This client takes the first part for the host.
    answer = failing.get("//evil.example/%22%3E%3Cscript%3E")
    assert answer.status_code == 400
    assert "evil" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/admin"])
def test_a_host_that_is_not_trusted(app_factory: AppFactory, path: str) -> None:
    client = app_factory(trusted_hosts=("api.example.com",)).test_client()
    answer = client.get(path, headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert '<a class="brand" href="/">' in answer.get_data(as_text=True)


def test_a_form_that_is_too_large(failing: FlaskClient) -> None:
    answer = failing.post("/register", data={"email": "a" * 300_000})
    assert answer.status_code == 413 and answer.mimetype == "text/html"


def test_a_bug_is_logged_once_with_its_traceback(
    failing: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = failing.get("/v1/fail/bug")
    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 1
    assert records[0].__dict__["request_id"] == answer.headers["x-request-id"]


def test_expected_errors_have_no_traceback(
    failing: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        failing.get("/fail/field")
    records = [record for record in caplog.records if record.name.startswith("promptly")]
    assert [(record.levelname, record.exc_info) for record in records] == [("INFO", None)]


@pytest.mark.parametrize("path", ["//v1//chat/completions", "//v1/models", "/v1//models", "/v1//"])
def test_double_slashes_below_v1_are_unknown(client: FlaskClient, path: str) -> None:
    answer = send(client, path)
    assert (answer.status_code, answer.headers.get("Location")) == (404, None)
    assert json.loads(answer.data)["error"]["code"] == "unknown_url"


@pytest.mark.parametrize("path", ["//", "//docs", "/docs//", "//evil.example/", "//admin//users"])
def test_double_slashes_elsewhere_are_unknown(client: FlaskClient, path: str) -> None:
    answer = send(client, path)
    assert (answer.status_code, answer.headers.get("Location")) == (404, None)
    assert answer.mimetype == "text/html"


def send(client: FlaskClient, path: str) -> TestResponse:
    # The test client would take `//name` for a host.
    return client.open("/", environ_overrides={"PATH_INFO": path, "HTTP_HOST": "evil.example"})
