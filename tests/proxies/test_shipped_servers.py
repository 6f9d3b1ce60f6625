"""The servers of deploy/nginx: redirection, the public site, and the private one with the panel."""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.proxies.conftest import ADMIN_KEY, INSIDE, OUTSIDE, MakeProxy, Site
from tests.proxies.nginx import Certificate
from tests.proxies.shipped import BEHIND_ANOTHER, HOST, ShippedNginx

pytestmark = [pytest.mark.nginx, pytest.mark.slow]

PANEL = f"/admin?key={ADMIN_KEY}"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# Paths that lead to the panel, the metrics and the list of dependencies, in several spellings.
PRIVATE = [
    *("/admin", PANEL, "/admin/", f"/admin/users?key={ADMIN_KEY}", "/admin/session", "/admin;x"),
    *("//admin", "/./admin", "/docs/../admin", "/docs/..%2fadmin", "/%61dmin", "/admin%2Fusers"),
    *("/admin?/../docs/", "/admin#/../docs/"),
    *("/metrics", "/metrics/", "//metrics", "/%6detrics"),
    *("/health/ready", "/health//ready", "/health%2Fready", "/health/./ready"),
]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def came_from_nginx(self) -> bool:
        """Whether nginx answered without asking the gateway."""
        return b"<center>nginx</center>" in self.body


def ask(
    port: int,
    path: str,
    *,
    certificate: Certificate | None = None,
    source: str = INSIDE,
    form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send a GET, or a POST of a form, with the path as it is; by TLS with a certificate."""
    if certificate is None:
        connection = http.client.HTTPConnection(INSIDE, port, 20, (source, 0))
    else:
        context = ssl.create_default_context(cafile=str(certificate.file))
        connection = http.client.HTTPSConnection(
            INSIDE, port, timeout=20, source_address=(source, 0), context=context
        )
    if form is None:
        connection.request("GET", path, headers=headers or {})
    else:
        connection.request("POST", path, urlencode(form), FORM)
    answer = connection.getresponse()
    found = Answer(answer.status, answer.headers, answer.read())
    connection.close()
    return found


def public(site: Site, path: str, **options: Any) -> Answer:
    return ask(site.nginx.ports.https, path, certificate=site.certificate, **options)


def test_port_80_answers_challenges_and_redirects_everything_else(site: Site) -> None:
    port = site.nginx.ports.http
    challenge = site.nginx.webroot / ".well-known" / "acme-challenge" / "token"
    challenge.parent.mkdir(parents=True, exist_ok=True)
    challenge.write_text("token.thumbprint")
    answer = ask(port, "/.well-known/acme-challenge/token")
    assert (answer.status, answer.body) == (200, b"token.thumbprint")
    for path in ("/", "/docs/api?a=b", "/admin", "/.well-known/security.txt"):
        answer = ask(port, path)
        assert (answer.status, answer.headers["Location"]) == (301, f"https://{HOST}{path}")


def test_the_public_site_is_https(site: Site) -> None:
    answer = public(site, "/")
    assert answer.status == 200
    # The gateway knows the scheme.
    assert answer.headers["Strict-Transport-Security"]
    assert (answer.headers["Server"], public(site, "/health").status) == ("nginx", 200)


def test_the_public_site_speaks_http_2(site: Site) -> None:
    context = ssl.create_default_context(cafile=str(site.certificate.file))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((INSIDE, site.nginx.ports.https), 20) as connection,
        context.wrap_socket(connection, server_hostname=INSIDE) as secured,
    ):
        assert secured.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("path", PRIVATE)
def test_the_public_site_has_no_panel(site: Site, path: str) -> None:
    answer = public(site, path)
    assert (answer.status, answer.came_from_nginx) == (404, True)
    answer = public(site, path, form={"key": ADMIN_KEY, "email": "a@example.com", "delta": "1"})
    assert (answer.status, answer.came_from_nginx) == (404, True)


def test_the_private_site_has_everything(site: Site) -> None:
    account = site.books.account()
    form = {"key": ADMIN_KEY, "email": account.email, "delta": "5"}
    for number, port in enumerate((site.nginx.ports.private, site.nginx.ports.staging), start=1):
        assert ask(port, "/health/ready").status == 200
        assert ask(port, PANEL).status == 200
        assert ask(port, "/admin/adjust", form=form).status == 200
        assert site.books.balance(account)["paid_tokens"] == 1_000_000 + 5 * number
        answer = ask(port, "/v1/balance", headers=account.headers)
        assert json.loads(answer.body)["object"] == "balance"
        # The network encrypts; a browser that insisted on https would find none here.
        assert "Strict-Transport-Security" not in ask(port, "/").headers


@pytest.mark.parametrize(
    ("path", "source", "forwarded"),
    [
        ("/admin", INSIDE, None),
        ("/admin?key=wrong", INSIDE, None),
        (PANEL, OUTSIDE, None),
        (PANEL, OUTSIDE, INSIDE),
        (PANEL, OUTSIDE, f"{INSIDE}, {INSIDE}"),
    ],
)
def test_the_panel_needs_both_layers(
    site: Site, path: str, source: str, forwarded: str | None
) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    answer = ask(site.nginx.ports.private, path, source=source, headers=headers)
    assert (answer.status, answer.came_from_nginx) == (403, False)


def test_what_a_client_claims_does_not_lock_it_out(site: Site) -> None:
    claimed = {"X-Forwarded-For": "203.0.113.9, garbage"}
    answer = ask(site.nginx.ports.private, PANEL, headers=claimed)
    assert answer.status == 200


@pytest.fixture
def behind_another(site: Site, make_proxy: MakeProxy, tmp_path: Path) -> Iterator[int]:
    """Port of a proxy in front of nginx, which is changed as its comment says."""
    gateway = f"127.0.0.1:{site.gateway.port}"
    nginx = ShippedNginx(
        tmp_path / "inner", site.certificate, gateway=gateway, staging=gateway,
        changes=BEHIND_ANOTHER,
    )  # fmt: skip
    yield make_proxy(nginx.ports.private, certificate=site.certificate).port
    nginx.stop()


def test_behind_another_proxy(site: Site, behind_another: int) -> None:
    def outer(path: str, **options: Any) -> Answer:
        return ask(behind_another, path, certificate=site.certificate, **options)

    assert outer(PANEL).status == 200
    assert outer(PANEL, source=OUTSIDE).status == 403
    assert outer(PANEL, source=OUTSIDE, headers={"X-Forwarded-For": INSIDE}).status == 403
    assert "Strict-Transport-Security" in outer("/").headers


def test_static_files_are_kept(site: Site) -> None:
    urls = re.findall(r'(?:href|src)="(/static/[^"]+)"', public(site, "/").body.decode())
    assert urls
    for url in urls:
        answer = public(site, url)
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    answer = public(site, "/static/promptly.css")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")


def test_compressed_files_are_revalidated(site: Site) -> None:
    gzip = {"Accept-Encoding": "gzip"}
    answer = public(site, "/static/promptly.css", headers=gzip)
    assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == (
        "gzip",
        "Accept-Encoding",
    )
    known = {"If-None-Match": answer.headers["ETag"]}
    assert public(site, "/static/promptly.css", headers=gzip | known).status == 304


@pytest.mark.parametrize(
    ("path", "compressed"),
    [
        *((path, True) for path in ("/static/promptly.css", "/docs/", "/openapi.json")),
        *((path, True) for path in ("/AGENTS.md", "/llms.txt")),
        *((path, False) for path in ("/", "/register", "/dashboard?key={key}", "/v1/models")),
    ],
)
def test_only_what_is_the_same_for_everybody_is_compressed(
    site: Site, path: str, compressed: bool
) -> None:
    account = site.books.account()
    headers = {**account.headers, "Accept-Encoding": "gzip"}
    answer = public(site, path.format(key=account.key), headers=headers)
    assert answer.status == 200
    assert answer.headers["Content-Encoding"] == ("gzip" if compressed else None)
