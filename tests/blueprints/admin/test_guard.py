"""Both layers of the guard, address and key, on every route."""

from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from promptly.secret import Secret
from promptly.services import audit
from promptly.transactions import transaction
from tests.blueprints.admin.conftest import ADMIN_KEY
from tests.conftest import AppFactory
from tests.support.races import together

TAILNET = "100.101.102.103"
OUTSIDE = "203.0.113.9"
PRIVATE = (ip_network("100.64.0.0/10"), ip_network("127.0.0.1/32"), ip_network("::1/128"))


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Yield every method and path of the panel, with 1 for each path argument."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("admin."):
            path = app.url_map.bind("localhost").build(
                rule.endpoint,
                dict.fromkeys(rule.arguments, 1),
                method="GET" if "GET" in (rule.methods or set()) else "POST",
            )
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                yield method, path


def statuses(app: Flask, *, address: str = "127.0.0.1", **options: Any) -> set[int]:
    """Return the set of statuses that all routes answer to this kind of request."""
    found = set()
    for method, path in routes(app):
        # A fresh client per route, so that no cookie carries over.
        client = app.test_client()
        given = dict(options)
        if method == "POST" and "key" in given:
            given["data"] = {"key": given.pop("key")}
        elif "key" in given:
            given["query_string"] = {"key": given.pop("key")}
        answer = client.open(
            path, method=method, environ_overrides={"REMOTE_ADDR": address}, **given
        )
        assert answer.headers["Cache-Control"] == "no-store", path
        assert answer.headers["X-Robots-Tag"].startswith("noindex"), path
        found.add(answer.status_code)
    assert found, "there are routes"
    return found


def test_without_a_key_every_route_is_forbidden(admin_app: Flask) -> None:
    assert statuses(admin_app) == {403}


def test_from_outside_every_route_is_forbidden_whatever_the_key(admin_app: Flask) -> None:
    assert statuses(admin_app, address=OUTSIDE, key=ADMIN_KEY) == {403}
    assert statuses(admin_app, address="", key=ADMIN_KEY) == {403}


def test_without_admin_key_set_every_route_is_forbidden(app: Flask) -> None:
    for key in ("", "anything", ADMIN_KEY):
        assert statuses(app, key=key) == {403}


def test_with_both_no_route_is(admin_app: Flask) -> None:
    assert not statuses(admin_app, key=ADMIN_KEY) & {403, 500}


def test_a_session_does_not_help_from_outside(admin_app: Flask, panel: FlaskClient) -> None:
    for method, path in routes(admin_app):
        answer = panel.open(path, method=method, environ_overrides={"REMOTE_ADDR": OUTSIDE})
        assert answer.status_code == 403, path


ADDRESSES: list[tuple[int, str, str | None, int]] = [
    # No proxy configured: the peer's address decides, and a request that passed one is refused.
    (0, TAILNET, None, 200),
    (0, OUTSIDE, None, 403),
    (0, OUTSIDE, "127.0.0.1", 403),
    (0, OUTSIDE, f"{TAILNET}, 127.0.0.1", 403),
    (0, TAILNET, OUTSIDE, 403),
    (0, TAILNET, "", 403),
    # One proxy: the last address is the one that the proxy saw.
    (1, "127.0.0.1", TAILNET, 200),
    (1, "127.0.0.1", f"{OUTSIDE}, {TAILNET}", 200),
    (1, "127.0.0.1", OUTSIDE, 403),
    (1, "127.0.0.1", f"127.0.0.1, {OUTSIDE}", 403),
    (1, "127.0.0.1", f"{TAILNET}, {TAILNET}, {OUTSIDE}", 403),
    (1, "127.0.0.1", None, 403),
    (1, TAILNET, "", 403),
    (1, TAILNET, " , ", 403),
    # Two proxies: the last address but one.
    (2, "127.0.0.1", f"{TAILNET}, 10.0.0.1", 200),
    (2, "127.0.0.1", f"{OUTSIDE}, {TAILNET}, 10.0.0.1", 200),
    (2, "127.0.0.1", f"{OUTSIDE}, 10.0.0.1", 403),
    (2, "127.0.0.1", f"127.0.0.1, {OUTSIDE}, 10.0.0.1", 403),
    (2, "127.0.0.1", TAILNET, 403),
    (2, "127.0.0.1", None, 403),
    # Invalid addresses are refused.
    (1, "127.0.0.1", "unknown", 403),
    (1, "127.0.0.1", f"{TAILNET}:4711", 200),
    (1, "127.0.0.1", f"{OUTSIDE}:4711", 403),
    (1, "127.0.0.1", "127.0.0.1\x00", 403),
    # IPv6 and IPv4-mapped IPv6.
    (0, "::1", None, 200),
    (0, "2001:db8::1", None, 403),
    (0, f"::ffff:{TAILNET}", None, 200),
    (0, f"::ffff:{OUTSIDE}", None, 403),
    (1, "127.0.0.1", "::ffff:127.0.0.1", 200),
]


def test_addresses(app_factory: AppFactory, subtests: pytest.Subtests) -> None:
    apps = {
        hops: app_factory(
            admin_key=Secret(ADMIN_KEY), trusted_proxy_hops=hops, admin_allowed_cidrs=PRIVATE
        )
        for hops in (0, 1, 2)
    }
    for hops, peer, forwarded, status in ADDRESSES:
        overrides = {"REMOTE_ADDR": peer}
        if forwarded is not None:
            overrides["HTTP_X_FORWARDED_FOR"] = forwarded
        with subtests.test(hops=hops, peer=peer, forwarded=forwarded):
            client = apps[hops].test_client()
            answer = client.get(f"/admin/audit?key={ADMIN_KEY}", environ_overrides=overrides)
            assert answer.status_code == status


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
def test_a_proxy_that_is_not_configured(admin_app: Flask, header: str) -> None:
    assert statuses(admin_app, key=ADMIN_KEY, headers={header: "1.1 proxy"}) == {403}


UNKNOWN = (("GET", "/admin/nowhere"), ("GET", "/admin/adjust"), ("PUT", "/admin/users"),
           ("POST", "/admin/users/1"), ("GET", "/admin/users/x"), ("OPTIONS", "/admin/users"),
           ("DELETE", "/admin"), ("POST", "/admin/"))  # fmt: skip


def test_strangers_cannot_probe_for_routes(script: FlaskClient) -> None:
    outside = {"REMOTE_ADDR": OUTSIDE}
    for method, path in UNKNOWN:
        asked = {"key": ADMIN_KEY}
        answer = script.open(path, method=method, environ_overrides=outside, query_string=asked)
        assert answer.status_code == 403, path
        assert answer.headers["Cache-Control"] == "no-store", path
        assert script.open(path, method=method).status_code == 403, path
    for method, path in UNKNOWN[:3]:
        answer = script.open(path, method=method, query_string={"key": ADMIN_KEY})
        assert answer.status_code in {404, 405}, path
    assert script.get("/administrator").status_code == 404


def test_refusals_look_the_same(script: FlaskClient) -> None:
    outside = {"REMOTE_ADDR": OUTSIDE}
    for path in ("/admin/adjust", "/admin"):
        answers = [
            script.open(path, environ_overrides=outside, **options)
            for options in _with_key(path, ADMIN_KEY)
        ] + [script.open(path, **options) for options in _with_key(path, "wrong")]
        [body] = {answer.text for answer in answers}
        assert {answer.status_code for answer in answers} == {403}
        assert ("error" in (answers[0].json or {})) if path != "/admin" else "Not allowed" in body


def _with_key(path: str, key: str) -> Iterator[dict[str, Any]]:
    if path == "/admin":
        yield {"query_string": {"key": key}}
    else:
        yield {"method": "POST", "data": {"key": key}}


def test_wrong_keys_are_throttled_and_so_is_the_right_one(
    admin_app: Flask, script: FlaskClient
) -> None:
    found = [script.get("/admin?key=wrong").status_code for _ in range(10)]
    assert found == [403] * 10
    answer = script.post("/admin/adjust", data={"key": "wrong"})
    assert answer.status_code == 429 and 0 < int(answer.headers["retry-after"]) <= 300
    assert answer.json is not None and answer.json["error"]["code"] == "rate_limit_exceeded"
    # Otherwise further guesses would still find the key.
    assert script.get(f"/admin?key={ADMIN_KEY}").status_code == 429
    elsewhere = {"REMOTE_ADDR": TAILNET}
    assert script.get(f"/admin?key={ADMIN_KEY}", environ_overrides=elsewhere).status_code == 200
    with admin_app.app_context(), transaction():
        [refusal, *others] = audit.entries(action="session.refuse").rows
        assert (refusal.actor, refusal.address, len(others)) == ("unknown", "127.0.0.1", 9)


def test_parallel_guesses_do_not_exceed_the_limit(admin_app: Flask) -> None:
    def guess() -> int:
        return admin_app.test_client().get("/admin?key=wrong").status_code

    assert Counter(together(admin_app, *[guess] * 40)) == {403: 10, 429: 30}


def test_right_keys_are_not_counted(admin_app: Flask) -> None:
    def enter() -> int:
        return admin_app.test_client().get(f"/admin?key={ADMIN_KEY}").status_code

    assert set(together(admin_app, *[enter] * 20)) == {200}


def test_wrong_keys_for_unknown_urls_count_as_well(script: FlaskClient) -> None:
    found = [script.get("/admin/nowhere?key=wrong").status_code for _ in range(11)]
    assert found == [403] * 10 + [429]


def test_open_sessions_go_on_meanwhile(panel: FlaskClient) -> None:
    for _ in range(11):
        answer = panel.post("/admin/session", data={"key": "wrong"})
    assert answer.status_code == 429
    assert panel.get("/admin").status_code == 200


def test_wrong_keys_are_counted_over_all_addresses(script: FlaskClient) -> None:
    for number in range(100):
        address = {"REMOTE_ADDR": f"100.64.{number}.1"}
        answer = script.get("/admin?key=wrong", environ_overrides=address)
        assert answer.status_code == 403
    address = {"REMOTE_ADDR": TAILNET}
    assert script.get("/admin?key=wrong", environ_overrides=address).status_code == 429


def test_strangers_fill_no_count(script: FlaskClient) -> None:
    for _ in range(120):
        script.get("/admin?key=wrong", environ_overrides={"REMOTE_ADDR": OUTSIDE})
    assert script.get(f"/admin?key={ADMIN_KEY}").status_code == 200


def test_the_count_is_shared_by_processes(app_factory: AppFactory) -> None:
    one, other = (app_factory(admin_key=Secret(ADMIN_KEY)).test_client() for _ in range(2))
    for client in (one, other) * 5:
        assert client.get("/admin?key=wrong").status_code == 403
    assert {client.get("/admin?key=wrong").status_code for client in (one, other)} == {429}


def test_the_wait_is_the_rest_of_the_shared_window(app_factory: AppFactory, redis_url: str) -> None:
    one, other = (app_factory(admin_key=Secret(ADMIN_KEY)).test_client() for _ in range(2))
    for _ in range(10):
        one.get("/admin?key=wrong")
    with redis.Redis.from_url(redis_url) as server:
        for name in server.keys("*"):
            server.expire(name, 60)
    assert 0 < int(other.get("/admin?key=wrong").headers["retry-after"]) <= 61


def test_counts_that_redis_loses_hold_in_the_process(script: FlaskClient, redis_url: str) -> None:
    for _ in range(10):
        script.get("/admin?key=wrong")
    with redis.Redis.from_url(redis_url) as server:
        server.flushdb()
    assert script.get(f"/admin?key={ADMIN_KEY}").status_code == 429


def test_while_redis_is_away_the_process_counts(app_factory: AppFactory) -> None:
    app = app_factory(admin_key=Secret(ADMIN_KEY), redis_url="redis://127.0.0.1:1/0")
    client = app.test_client()
    assert client.get(f"/admin?key={ADMIN_KEY}").status_code == 200
    found = [client.get("/admin?key=wrong").status_code for _ in range(11)]
    assert found == [403] * 10 + [429]
    assert client.get(f"/admin?key={ADMIN_KEY}").status_code == 429


WRONG = (
    "", " ", "é", "\udcff", "\x00", ADMIN_KEY[:-1], f"{ADMIN_KEY}x", ADMIN_KEY.upper(), "*" * 9999,
)  # fmt: skip


def test_wrong_keys(script: FlaskClient, subtests: pytest.Subtests) -> None:
    for number, key in enumerate(WRONG):
        sent = key.encode(errors="surrogateescape").decode("latin-1")
        from_here = {"REMOTE_ADDR": f"100.64.0.{number}"}
        with subtests.test(key=key[:50]):
            answer = script.post("/admin/adjust", data={"key": sent}, environ_overrides=from_here)
            assert answer.status_code == 403
            asked = {"key": sent}
            answer = script.get("/admin", query_string=asked, environ_overrides=from_here)
            assert answer.status_code == 403


def test_a_key_in_base64_need_not_be_encoded(app_factory: AppFactory) -> None:
    key = "+ab/cd+EFGHIJKLMNOPQRSTUVWXYZ0123456789++=="
    client = app_factory(admin_key=Secret(key)).test_client()
    # Not percent-encoded, as `curl -d` and a hand-written link send it.
    form = {"data": f"key={key}", "content_type": "application/x-www-form-urlencoded"}
    assert client.post("/admin/adjust", **form).status_code == 400
    assert client.get(f"/admin?key={key}").status_code == 200
    assert client.get("/admin", query_string={"key": key}).status_code == 200
    assert client.get("/admin", query_string={"key": key.replace("+", "")}).status_code == 403


def test_a_key_in_the_url_opens_no_post(script: FlaskClient) -> None:
    assert script.post(f"/admin/adjust?key={ADMIN_KEY}").status_code == 403


def test_a_form_of_another_site(panel: FlaskClient, script: FlaskClient) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        for client in (panel, script):
            answer = client.post("/admin/session", data={"key": ADMIN_KEY}, headers=headers)
            assert answer.status_code == 403
