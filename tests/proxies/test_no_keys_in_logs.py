"""A key in a URL reaches no log: neither the gateway's nor nginx's, configured as shipped."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.proxies.conftest import ADMIN_KEY, MakeGateway
from tests.proxies.nginx import Certificate
from tests.proxies.shipped import ShippedNginx
from tests.support.books import BooksReader
from tests.support.servers import Gateway

pytestmark = [pytest.mark.nginx, pytest.mark.slow]

# Length of the public part of a user's key.
PREFIX_LENGTH = 12
BROWSER = {"Sec-Fetch-Mode": "navigate"}
PATHS = ("/dashboard", "/dashboard/usage.csv", "/purchases", "/admin", "/admin/users")


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    return make_gateway(TRUSTED_PROXY_HOPS=1)


@pytest.fixture
def nginx(gateway: Gateway, certificate: Certificate, tmp_path: Path) -> Iterator[ShippedNginx]:
    """nginx in front of a gateway and, for staging, of a Unix socket that does not exist.

    nginx reports that at the level `crit`, and a port that refuses connections at `error`.
    """
    server = ShippedNginx(
        tmp_path / "nginx",
        certificate,
        gateway=f"127.0.0.1:{gateway.port}",
        staging=f"unix:{tmp_path}/missing.sock",
    )
    yield server
    server.stop()


def get(url: str, certificate: Certificate, **headers: str) -> requests.Response:
    return requests.get(
        url, headers=headers, allow_redirects=False, timeout=20, verify=str(certificate.file)
    )


def test_keys_in_urls(
    nginx: ShippedNginx, gateway: Gateway, certificate: Certificate, books: BooksReader
) -> None:
    ports = nginx.ports
    public, private = f"https://127.0.0.1:{ports.https}", f"http://127.0.0.1:{ports.private}"
    plain, staging = f"http://127.0.0.1:{ports.http}", f"http://127.0.0.1:{ports.staging}"
    key = books.account().key
    wrong = "sk-" + key[3:][::-1]
    for secret in (key, wrong, ADMIN_KEY):
        for path in PATHS:
            for value in (secret, quote(secret[:20]) + "%20" + secret[20:]):
                for headers in ({}, BROWSER):
                    answer = get(f"{private}{path}?key={value}", certificate, **headers)
                    assert answer.status_code < 500, path
                    assert secret not in repr(answer.headers)
        for server in (public, plain):
            assert get(f"{server}/dashboard?key={secret}", certificate).status_code < 500
        # A question mark that is encoded does not begin a query, but a key may follow it.
        assert get(f"{public}/dashboard%3Fkey={secret}", certificate).status_code == 404
        referrer = f"{public}/dashboard?key={secret}"
        assert get(f"{public}/health", certificate, Referer=referrer).status_code == 200
        assert get(f"{staging}/dashboard?key={secret}", certificate).status_code == 502
    gateway.kill()
    for server in (public, private):
        assert get(f"{server}/dashboard?key={key}", certificate).status_code == 502
    texts = {"gateway.log": gateway.log_text(), **nginx.log_texts()}
    assert '"GET /dashboard" 502' in texts["promptly.log"]
    assert '"path":"/dashboard"' in texts["gateway.log"]
    for secret in (
        key[PREFIX_LENGTH:],
        wrong[PREFIX_LENGTH:],
        ADMIN_KEY,
        ADMIN_KEY[:20],
        key[-20:],
    ):
        assert [name for name, text in texts.items() if secret in text] == []
