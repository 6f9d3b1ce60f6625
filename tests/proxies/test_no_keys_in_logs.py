"""A key in a URL reaches no log: neither the gateway's nor nginx's, configured as documented."""

from urllib.parse import quote

import pytest
import requests

from tests.proxies.conftest import ADMIN_KEY, MakeGateway, MakeProxy
from tests.support.books import BooksReader

pytestmark = [pytest.mark.nginx, pytest.mark.slow]

# Length of the public part of a user's key.
PREFIX_LENGTH = 12
BROWSER = {"Sec-Fetch-Mode": "navigate"}


def test_keys_in_urls(make_gateway: MakeGateway, make_proxy: MakeProxy, books: BooksReader) -> None:
    gateway = make_gateway(TRUSTED_PROXY_HOPS=1)
    proxy = make_proxy(gateway.port)
    key = books.account().key
    wrong = "sk-" + key[3:][::-1]
    for secret in (key, wrong, ADMIN_KEY):
        for path in ("/dashboard", "/dashboard/usage.csv", "/purchases", "/admin", "/admin/users"):
            for value in (secret, quote(secret[:20]) + "%20" + secret[20:]):
                for headers in ({}, BROWSER):
                    answer = requests.get(
                        f"{proxy.url}{path}?key={value}",
                        headers=headers,
                        allow_redirects=False,
                        timeout=20,
                    )
                    assert answer.status_code < 500, path
                    assert secret not in answer.headers.get("Location", "")
                    assert secret not in repr(answer.headers)
    # With the gateway away, nginx writes to its error log, which quotes whole requests.
    gateway.kill()
    assert requests.get(f"{proxy.url}/dashboard?key={key}", timeout=20).status_code == 502
    texts = {"gateway.log": gateway.log_text(), **proxy.log_texts()}
    assert '"GET /dashboard" 502' in texts["access.log"]
    assert '"path":"/dashboard"' in texts["gateway.log"]
    for secret in (
        key[PREFIX_LENGTH:],
        wrong[PREFIX_LENGTH:],
        ADMIN_KEY,
        ADMIN_KEY[:20],
        key[-20:],
    ):
        assert [name for name, text in texts.items() if secret in text] == []
