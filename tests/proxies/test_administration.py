"""Access to the admin panel behind no, one and two proxies needs both the address and the key."""

import http.client
from dataclasses import dataclass

import pytest

from tests.proxies.conftest import ADMIN_KEY, INSIDE, OUTSIDE, MakeGateway, MakeProxy

pytestmark = [pytest.mark.nginx, pytest.mark.slow]

RIGHT = f"/admin?key={ADMIN_KEY}"


@dataclass(frozen=True)
class Way:
    """Ports to one gateway: through all its proxies first, each next through one fewer."""

    hops: int
    ports: tuple[int, ...]


@pytest.fixture(scope="module", params=[0, 1, 2])
def way(request: pytest.FixtureRequest, make_gateway: MakeGateway, make_proxy: MakeProxy) -> Way:
    gateway = make_gateway(TRUSTED_PROXY_HOPS=request.param, ADMIN_ALLOWED_CIDRS=f"{INSIDE}/32")
    ports = [gateway.port]
    for number in range(request.param):
        # The last proxy started is the outermost, the one that clients connect to.
        outermost = number == request.param - 1
        ports.insert(0, make_proxy(ports[0], behind_another=not outermost).port)
    return Way(request.param, tuple(ports))


def status(port: int, path: str, source: str = INSIDE, forwarded: str | None = None) -> int:
    """Return the status for a client that connects from the address `source`."""
    connection = http.client.HTTPConnection(INSIDE, port, timeout=20, source_address=(source, 0))
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    connection.request("GET", path, headers=headers)
    found = connection.getresponse().status
    connection.close()
    return found


def test_the_right_address_with_the_key(way: Way) -> None:
    assert status(way.ports[0], RIGHT) == 200
    # An X-Forwarded-For of the client's own does not lock it out either, unless no proxy is known.
    forged = 200 if way.hops else 403
    assert status(way.ports[0], RIGHT, forwarded="203.0.113.9") == forged


@pytest.mark.parametrize("path", ["/admin", "/admin?key=wrong", "/admin?key=", "/admin/users"])
def test_the_right_address_without_the_key(way: Way, path: str) -> None:
    assert status(way.ports[0], path) == 403


@pytest.mark.parametrize("path", [RIGHT, f"/admin/users?key={ADMIN_KEY}", "/admin"])
def test_another_address_whatever_it_knows(way: Way, path: str) -> None:
    assert status(way.ports[0], path, OUTSIDE) == 403


@pytest.mark.parametrize(
    "forwarded",
    [INSIDE, f"{INSIDE}, {INSIDE}", f"{INSIDE}, {INSIDE}, {INSIDE}", f"{OUTSIDE}, {INSIDE}", "::1"],
)
def test_another_address_that_claims_to_be_the_right_one(way: Way, forwarded: str) -> None:
    assert status(way.ports[0], RIGHT, OUTSIDE, forwarded) == 403


def test_coming_around_a_proxy(way: Way) -> None:
    """With fewer addresses than proxies, no address is trusted, not even the allowed one."""
    for port in way.ports[1:]:
        assert status(port, RIGHT) == 403
        assert status(port, RIGHT, OUTSIDE) == 403


def test_without_a_key_access_is_refused(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(ADMIN_KEY="")
    for path in (RIGHT, "/admin", "/admin?key=", "/admin/users"):
        assert status(gateway.port, path) == 403
