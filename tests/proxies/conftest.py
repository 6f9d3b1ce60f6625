"""Fixtures for gateways behind real nginx proxies."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.plugins.stacks import MakeStack
from tests.proxies.nginx import Certificate, Nginx
from tests.support.books import BooksReader
from tests.support.servers import Gateway
from tests.support.stack import Stack

ADMIN_KEY = "the-admin-key-of-these-tests-0123456789"

MakeGateway = Callable[..., Gateway]
MakeProxy = Callable[..., Nginx]


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
    made: list[Nginx] = []

    def make(upstream_port: int, **options: Any) -> Nginx:
        folder = tmp_path_factory.mktemp("nginx") / "proxy"
        made.append(Nginx(folder, upstream_port, **options))
        return made[-1]

    yield make
    for proxy in made:
        proxy.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))
