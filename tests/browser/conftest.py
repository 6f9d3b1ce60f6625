"""The product under `make run`, started once for all tests here, and a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chromium import chromium
from tests.browser.customer import Customer
from tests.browser.operators import Operator
from tests.browser.site import Site, running_site

# Expectations usually hold at once, but take longer on a busy machine.
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
    """Whether the customer's browser runs scripts; tests override it to try both."""
    return False


@pytest.fixture
def operator(site: Site, browser: Browser, scripts: bool) -> Iterator[Operator]:
    someone = Operator(site, browser, scripts=scripts)
    yield someone
    someone.close()
    someone.watch.check()


@pytest.fixture
def visitor(site: Site, browser: Browser, scripts: bool) -> Iterator[Customer]:
    """A visitor without an account; teardown checks that their browser reported no problem."""
    someone = Customer(site, browser, scripts=scripts)
    yield someone
    someone.close()
    someone.watch.check()


@pytest.fixture
def customer(visitor: Customer) -> Customer:
    """A new customer with trial tokens, signed in."""
    for provider in ("stripe", "btcpay"):
        visitor.site.switch(provider, "rules/clear")
    visitor.open_account(trial_tokens=100_000)
    return visitor
