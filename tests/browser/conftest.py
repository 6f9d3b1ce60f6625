"""The product under `make run`, once for all tests here, and a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chromium import chromium
from tests.browser.customer import Customer
from tests.browser.site import Site, running_site

# What is expected is there at once as a rule; on a machine with other work it may take a while.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("site") / "product"
    with running_site(folder) as running:
        yield running


@pytest.fixture
def scripts() -> bool:
    """Whether the customer's browser runs scripts; a test that says so tries both."""
    return False


@pytest.fixture
def visitor(site: Site, browser: Browser, scripts: bool) -> Iterator[Customer]:
    """Somebody who has no account yet; his browser must have nothing to complain of."""
    someone = Customer(site, browser, scripts=scripts)
    yield someone
    someone.close()
    someone.watch.check()


@pytest.fixture
def customer(visitor: Customer) -> Customer:
    """Somebody new with the tokens of a trial, signed in."""
    for provider in ("stripe", "btcpay"):
        visitor.site.switch(provider, "rules/clear")
    visitor.open_account(trial_tokens=100_000)
    return visitor
