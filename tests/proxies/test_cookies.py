"""Sessions over https, behind proxies, and over plain http in a private network."""

import re

import pytest
import requests

from tests.proxies.conftest import ADMIN_KEY, MakeGateway, MakeProxy
from tests.proxies.nginx import Certificate
from tests.support.books import BooksReader
from tests.support.servers import Gateway

pytestmark = [pytest.mark.nginx, pytest.mark.slow]

CSRF = re.compile(r'name="csrf_token" value="([^"]+)"')


@pytest.fixture(scope="module", params=[1, 2])
def https(
    request: pytest.FixtureRequest,
    make_gateway: MakeGateway,
    make_proxy: MakeProxy,
    certificate: Certificate,
) -> str:
    """URL of a site behind one or two proxies, the outermost of which serves https."""
    gateway = make_gateway(TRUSTED_PROXY_HOPS=request.param)
    port = gateway.port
    if request.param == 2:
        port = make_proxy(port, behind_another=True).port
    return str(make_proxy(port, certificate=certificate).url)


@pytest.fixture(scope="module")
def plain(make_gateway: MakeGateway) -> Gateway:
    """A gateway that clients reach by plain http."""
    return make_gateway()


def sign_in_and_out(url: str, key: str, session: requests.Session) -> requests.Response:
    """Sign in, create a key and sign out by form; return the response that set the cookie."""
    entered = session.post(f"{url}/session", {"key": key}, allow_redirects=False, timeout=20)
    assert (entered.status_code, entered.headers["Location"]) == (303, "/dashboard")
    page = session.get(f"{url}/dashboard", timeout=20)
    assert page.url == f"{url}/dashboard"
    token = CSRF.search(page.text)
    assert token is not None
    form = {"csrf_token": token.group(1), "name": "second"}
    foreign = {"Referer": f"https://evil.example/{url}"}
    made = session.post(f"{url}/dashboard/keys", form, headers=foreign, timeout=20)
    assert made.status_code == 403
    # A browser may withhold the Referer.
    headers = {"Origin": url}
    made = session.post(f"{url}/dashboard/keys", form, headers=headers, timeout=20)
    assert made.status_code == 200 and "sk-" in made.text
    left = session.post(
        f"{url}/session/end", {"csrf_token": token.group(1)}, headers=headers, timeout=20
    )
    assert left.url == f"{url}/"
    return entered


def trust(session: requests.Session, certificate: Certificate) -> None:
    """Make a client trust this certificate, and ignore environment variables such as proxies."""
    session.trust_env = False
    session.verify = str(certificate.file)


def attributes(answer: requests.Response) -> set[str]:
    """Return the flags and SameSite attribute of the response's only Set-Cookie."""
    _, *others = answer.headers["Set-Cookie"].split("; ")
    return {item for item in others if "=" not in item or item.startswith("SameSite")}


def test_over_https(https: str, certificate: Certificate, books: BooksReader) -> None:
    with requests.Session() as session:
        trust(session, certificate)
        entered = sign_in_and_out(https, books.account().key, session)
    assert attributes(entered) == {"Secure", "HttpOnly", "SameSite=Lax"}
    assert entered.headers["Strict-Transport-Security"].startswith("max-age=")


def test_over_plain_http(plain: Gateway, books: BooksReader) -> None:
    with requests.Session() as session:
        entered = sign_in_and_out(plain.url, books.account().key, session)
    assert attributes(entered) == {"HttpOnly", "SameSite=Lax"}
    assert "Strict-Transport-Security" not in entered.headers


def test_the_panel_over_https(https: str, certificate: Certificate) -> None:
    with requests.Session() as session:
        trust(session, certificate)
        entered = session.post(
            f"{https}/admin/session", {"key": ADMIN_KEY}, allow_redirects=False, timeout=20
        )
        assert attributes(entered) == {"Secure", "HttpOnly", "SameSite=Strict"}
        assert session.get(f"{https}/admin", timeout=20).status_code == 200


def test_the_panel_over_plain_http(plain: Gateway) -> None:
    with requests.Session() as session:
        entered = session.post(
            f"{plain.url}/admin/session", {"key": ADMIN_KEY}, allow_redirects=False, timeout=20
        )
        assert attributes(entered) == {"HttpOnly", "SameSite=Strict"}
        assert session.get(f"{plain.url}/admin", timeout=20).status_code == 200
