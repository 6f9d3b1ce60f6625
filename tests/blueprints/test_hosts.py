"""Host names that the site answers to, by default and with TRUSTED_HOSTS."""

import pytest
from flask.testing import FlaskClient

from tests.conftest import AppFactory

BASE_URL = "https://api.example.com"


@pytest.fixture
def client(app_factory: AppFactory) -> FlaskClient:
    return app_factory(base_url=BASE_URL).test_client()


@pytest.mark.parametrize(
    "host",
    ["api.example.com", "API.example.com:443", "localhost:8503", "127.0.0.1:8503", "100.64.0.1",
     "203.0.113.9", "[2001:db8::1]", "[::1]:8503"],
)  # fmt: skip
def test_hosts_of_our_own(client: FlaskClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200
    assert client.get("/v1/models", headers={"Host": host}).status_code == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example", "example.com", "api.example.com.evil.example", "127.0.0.1.evil.example",
     "localhost.evil.example", "127.1", "2130706433", "[::1", "[evil.example]", "a..b", "a b", "",
     "evil.example:80@127.0.0.1", "127.0.0.1:99999999", "\xe9.example"],
)  # fmt: skip
def test_foreign_hosts(client: FlaskClient, host: str) -> None:
    for path in ("/", "/docs", "/admin", "/nowhere", "/v1/models"):
        raw = {"PATH_INFO": path}
        answer = client.get("/", headers={"Host": host}, environ_overrides=raw)
        assert answer.status_code == 400
        assert "Location" not in answer.headers and "evil" not in answer.text
    answer = client.get("/v1/models", headers={"Host": host})
    assert answer.json is not None and answer.json["error"]["type"] == "invalid_request_error"


def test_health_answers_to_any_name(client: FlaskClient) -> None:
    headers = {"Host": "load-balancer.internal"}
    assert client.get("/health", headers=headers).json == {"status": "ok"}
    # No model server runs here.
    assert client.get("/health/ready", headers=headers).status_code == 503


def test_trusted_hosts_replace_the_default(app_factory: AppFactory) -> None:
    hosts = ("one.example", ".two.example")
    client = app_factory(base_url=BASE_URL, trusted_hosts=hosts).test_client()
    for host, status in (
        ("one.example", 200), ("One.example:8503", 200), ("two.example", 200),
        ("a.two.example", 200), ("a.one.example", 400), ("api.example.com", 400),
        ("127.0.0.1", 400), ("localhost", 400),
    ):  # fmt: skip
        assert client.get("/", headers={"Host": host}).status_code == status, host
    assert client.get("/health", headers={"Host": "127.0.0.1"}).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "//docs", "//evil.example//docs"])
def test_redirects_name_no_host(client: FlaskClient, path: str) -> None:
    options = {"environ_overrides": {"PATH_INFO": path}, "headers": {"Host": "203.0.113.9"}}
    answer = client.get("/?q=1", **options)
    assert answer.status_code in {308, 404}
    if answer.status_code == 308:
        assert answer.location in {"/docs/?q=1", "/docs?q=1", "/evil.example/docs?q=1"}


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/v1/models", "evil.example", 400),
        ("//v1/models", "localhost", 404),
        ("/v1//models", "localhost", 404),
        ("/v1//models", "evil.example", 404),
    ],
)
def test_refused_requests_count_against_their_address(
    app_factory: AppFactory, path: str, host: str, status: int
) -> None:
    client = app_factory(base_url=BASE_URL, inference_ip_rate_limit=3).test_client()

    def send(path: str, host: str) -> int:
        raw = {"PATH_INFO": path, "HTTP_HOST": host}
        return client.get("/", environ_overrides=raw).status_code

    assert [send(path, host) for _ in range(4)] == [status, status, status, 429]
    # They share the limit of all other requests; pages and health checks are not in it.
    assert send("/v1/models", "localhost") == 429
    assert send("/health", host) == 200
