import pytest
from flask import Flask

from promptly.proxies import client_address, client_network, forwarded_address, plain_address
from tests.conftest import AppFactory

PEER = "10.0.0.9"


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        (None, 0, PEER),
        ("1.1.1.1", 0, PEER),
        ("1.1.1.1", 1, "1.1.1.1"),
        # The client wrote the left part itself.
        ("6.6.6.6, 1.1.1.1", 1, "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1, 2.2.2.2", 2, "1.1.1.1"),
        (" , 1.1.1.1 ,", 1, "1.1.1.1"),
        ("1.1.1.1", 2, None),
        ("1.2.3.4:567", 1, "1.2.3.4"),
        ("[2001:db8::1]:443", 1, "2001:db8::1"),
        ("[2001:DB8::1]", 1, "2001:db8::1"),
        ("2001:db8::1", 1, "2001:db8::1"),
        ("fe80::1%eth0", 1, "fe80::1"),
        # All of these share one limit.
        ("unknown", 1, "unknown"),
        ("_hidden", 1, "unknown"),
        ("1.2.3.4.5", 1, "unknown"),
        ("[2001:db8::1", 1, "2001:db8::1"),
        ("1.2.3.4\x00", 1, "unknown"),
        ("", 1, None),
        (None, 1, None),
    ],
)
def test_only_trusted_proxies_are_believed(
    forwarded: str | None, hops: int, expected: str | None
) -> None:
    assert forwarded_address(PEER, forwarded, hops) == expected


def test_a_long_entry_is_not_kept() -> None:
    start = "1.2.3.4:567"
    plain_address.cache_clear()
    for more in ("x" * 1000, "x" * 2000):
        assert forwarded_address(PEER, start.ljust(100) + more, 1) == "1.2.3.4"
    assert plain_address.cache_info().currsize == 1


def seen(app: Flask, forwarded: str | None = None, peer: str = PEER) -> tuple[str, str]:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    environ = {"REMOTE_ADDR": peer}
    with app.test_request_context(headers=headers, environ_overrides=environ):
        return client_address(), client_network()


def test_the_address_of_a_request(app_factory: AppFactory) -> None:
    direct, proxied = app_factory(), app_factory(trusted_proxy_hops=1)
    assert seen(direct, "1.1.1.1")[0] == PEER
    assert seen(proxied, "6.6.6.6, 1.1.1.1")[0] == "1.1.1.1"
    # If the proxy forwards no address, its own counts.
    assert seen(proxied)[0] == PEER


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::1", "::/64"),
        ("no:address", "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one(app: Flask, peer: str, network: str) -> None:
    assert seen(app, peer=peer)[1] == network
