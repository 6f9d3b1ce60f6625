"""The doctor compares the requests' number of forwarded addresses with TRUSTED_PROXY_HOPS."""

import time

import pytest
import redis

from promptly import proxies
from promptly.cli import proxy_checks
from promptly.secret import Secret
from tests.conftest import AppFactory
from tests.support.servers import make_settings

FOR = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("hops", "headers", "levels", "words"),
    [
        (0, [], [], ""),
        (0, [None], ["ok"], "carry 0"),
        (0, ["1.2.3.4"], ["warning"], "set it to the number of your proxies"),
        (0, [None, "1.2.3.4, 5.6.7.8"], ["warning"], "carried 2 forwarded"),
        (1, ["1.2.3.4"], ["ok"], "carry 1"),
        # Clients may put addresses of their own before those of the proxies.
        (1, ["1.2.3.4", "1.1.1.1, 1.2.3.4"], ["ok"], "carry 1"),
        (1, [None], ["warning"], "bypassed your proxies"),
        (1, [None, "1.2.3.4"], ["warning"], "carried 0 forwarded"),
        (1, ["1.1.1.1, 1.2.3.4"], ["warning"], "more than TRUSTED_PROXY_HOPS=1"),
        (2, ["1.2.3.4", "1.1.1.1, 2.2.2.2, 3.3.3.3"], ["warning", "warning"], "fewer than"),
    ],
)
def test_the_doctor_compares(
    app_factory: AppFactory,
    redis_url: str,
    hops: int,
    headers: list[str | None],
    levels: list[str],
    words: str,
) -> None:
    app = app_factory(trusted_proxy_hops=hops, admin_key=Secret("x" * 30))
    client = app.test_client()
    for number, header in enumerate(headers):
        path = ("/register", "/admin")[number % 2]
        client.get(path, headers={} if header is None else {FOR: header})
    found = list(proxy_checks.findings(app.extensions["settings"]))
    assert [level for level, _ in found] == levels
    assert words in " ".join(message for _, message in found)
    assert "Proxies" in app.test_cli_runner().invoke(args=["doctor"]).stdout or not found


def test_it_costs_one_command_a_minute(app_factory: AppFactory, redis_url: str) -> None:
    client = app_factory().test_client()
    with redis.Redis.from_url(redis_url) as server:
        for _ in range(3):
            client.get("/", headers={FOR: "1.2.3.4"})
            assert proxies.recent_hop_counts(server) == {1}
            before = server.hgetall(proxies.HOP_COUNTS_KEY)
        server.delete(proxies.HOP_COUNTS_KEY)
        client.get("/", headers={FOR: "1.2.3.4"})
        assert proxies.recent_hop_counts(server) == set(), "noted a moment ago"
        client.get("/v1/models", headers={FOR: "1.2.3.4, 5.6.7.8"})
        assert proxies.recent_hop_counts(server) == set(), "never on the hot path"
        assert before
        server.hset(proxies.HOP_COUNTS_KEY, "3", int(time.time()) - 25 * 3600)
        assert proxies.recent_hop_counts(server) == set(), "that was yesterday"


def test_without_redis_pages_and_doctor_go_on(app_factory: AppFactory) -> None:
    client = app_factory(redis_url="redis://127.0.0.1:1/0").test_client()
    assert client.get("/").status_code == 200
    assert list(proxy_checks.findings(make_settings())) == []
