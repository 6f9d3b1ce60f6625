"""Fixtures for gateways behind real nginx proxies."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from sandbox.llama import SimulatedLlama
from tests.plugins.stacks import MakeStack
from tests.proxies.nginx import AppendingProxy, Certificate
from tests.proxies.shipped import IMPATIENT, ShippedNginx
from tests.support.books import BooksReader
from tests.support.servers import Gateway, WorkerRedis
from tests.support.stack import Stack

ADMIN_KEY = "the-admin-key-of-these-tests-0123456789"

# All of 127.0.0.0/8 is this machine, but only 127.0.0.1 may reach the panel: a client that binds
# another address of that network counts as outside.
INSIDE, OUTSIDE = "127.0.0.1", "127.0.0.2"

MakeGateway = Callable[..., Gateway]
MakeProxy = Callable[..., AppendingProxy]


@pytest.fixture(scope="module", autouse=True)
def no_wrong_keys_so_far(redis_server: WorkerRedis) -> None:
    """Empty Redis, where wrong keys of another module would close the panel to this one."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("proxies", ADMIN_KEY=ADMIN_KEY, LOG_LEVEL="debug") as stack:
        yield stack


@pytest.fixture(scope="module")
def books(stack: Stack) -> BooksReader:
    return stack.books


@pytest.fixture(scope="module")
def make_gateway(stack: Stack) -> MakeGateway:
    """Factory for started gateways; ADMIN_KEY is set unless overridden."""
    return stack.gateway


@pytest.fixture(scope="module")
def make_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeProxy]:
    """Factory for started proxies in front of an upstream port."""
    made: list[AppendingProxy] = []

    def make(upstream_port: int, **options: Any) -> AppendingProxy:
        folder = tmp_path_factory.mktemp("nginx") / "proxy"
        made.append(AppendingProxy(folder, upstream_port, **options))
        return made[-1]

    yield make
    for proxy in made:
        proxy.stop()


@pytest.fixture(scope="package")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@dataclass(frozen=True)
class Site:
    """A gateway in front of a simulated llama-server and behind nginx as shipped."""

    nginx: ShippedNginx
    certificate: Certificate
    gateway: Gateway
    llama: SimulatedLlama
    books: BooksReader


@pytest.fixture(scope="package")
def site(
    make_stack: MakeStack, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The site, on which every wait but that for an answer ends after a second."""
    variables = {"ADMIN_KEY": ADMIN_KEY, "ADMIN_ALLOWED_CIDRS": f"{INSIDE}/32"}
    with make_stack("site", TRUSTED_PROXY_HOPS=1, **variables) as stack:
        llama = stack.simulated_llama(ctx=4_000_000)
        gateway = stack.gateway(llama.url)
        nginx = ShippedNginx(
            tmp_path_factory.mktemp("site") / "nginx",
            certificate,
            gateway=f"127.0.0.1:{gateway.port}",
            staging=f"127.0.0.1:{gateway.port}",
            changes=IMPATIENT,
        )
        yield Site(nginx, certificate, gateway, llama, stack.books)
        nginx.stop()
