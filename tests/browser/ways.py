"""Ways to pages that have no URL of their own: forms, mails, and a failing site."""

import itertools
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.request import urlopen

import psycopg2
from playwright.sync_api import Page

from promptly.models.states import KeyScope
from promptly.services import account_deletion
from promptly.services.accounts import accounts, keys
from promptly.services.mail import outbox
from promptly.transactions import transaction
from sandbox.process import wait_until
from tests.blueprints.v1.client import Client, sim
from tests.browser.seeding import Past
from tests.browser.site import Site
from tests.support import factories
from tests.support.slots import name_slots

DELETION = "Confirm the deletion of your promptly account"
# A request id whose timestamp, its first part, is long ago.
DEAD_REQUEST = uuid.UUID("019a9e3c-7f10-7c6e-9f6e-2b7f3b1d9a01")
REISSUE = "Confirm your new promptly API key"

_numbers = itertools.count(1)


@dataclass(frozen=True)
class World:
    """The site and its past."""

    site: Site
    past: Past


def nothing(page: Page, world: World) -> None:
    """Stay on the page at the path."""


def undisturbed(_: Site) -> AbstractContextManager[None]:
    """Leave the site undisturbed."""
    return nullcontext()


def enter_a_wrong_key(page: Page, _: World) -> None:
    page.get_by_label("API key", exact=True).fill("sk-nobodys")
    page.get_by_role("button", name="Open the dashboard").click()


def send_too_much(page: Page, _: World) -> None:
    page.get_by_label("API key", exact=True).fill("x" * 300_000)
    page.get_by_role("button", name="Open the dashboard").click()


def register(address: str) -> Callable[[Page, World], None]:
    def act(page: Page, _: World) -> None:
        page.get_by_label("Email address").fill(address)
        page.get_by_role("button", name="Email me a key").click()

    return act


def register_too_often(page: Page, world: World) -> None:
    for _ in range(3):
        form: dict[str, str | float | bool] = {"email": "impatient@example.com"}
        page.context.request.post(f"{world.site.url}/register", form=form)
    register("impatient@example.com")(page, world)


def want_a_strange_warning(page: Page, _: World) -> None:
    page.get_by_label("Low-balance threshold").fill("a few")
    page.get_by_role("button", name="Save").click()


def buy(page: Page, _: World) -> None:
    page.get_by_role("button", name="Pay by card").first.click()


def choose_an_amount(amount: str) -> Callable[[Page, World], None]:
    def act(page: Page, _: World) -> None:
        page.get_by_label("Amount in USD").fill(amount)
        page.get_by_role("button", name="Pay by card for this amount").click()

    return act


def make_a_key(name: str) -> Callable[[Page, World], None]:
    def act(page: Page, _: World) -> None:
        page.get_by_label("Name of the new key").fill(name)
        page.get_by_role("button", name="Create key").click()

    return act


def limit_a_key(page: Page, _: World) -> None:
    """Enter a network with bits of a host."""
    page.get_by_label("Addresses").fill("192.0.2.7/24")
    page.get_by_role("button", name="Save").click()


def enter_a_key_for_the_api(page: Page, world: World) -> None:
    books = world.site.books
    address, _ = world.site.open_account(f"builder{next(_numbers)}@example.com")
    with books.app.app_context(), transaction():
        user_id = accounts.find(email=address).id
        pepper = books.app.extensions["settings"].key_pepper
        _, raw = keys.create(user_id, "build server", pepper, scope=KeyScope.INFERENCE)
    page.get_by_label("API key", exact=True).fill(raw)
    page.get_by_role("button", name="Open the dashboard").click()


def open_anothers_link(page: Page, world: World) -> None:
    _, key = world.site.open_account(f"other{next(_numbers)}@example.com")
    page.goto(f"{world.site.url}/dashboard?key={key}")


def revoke_a_key(page: Page, _: World) -> None:
    page.get_by_role("region", name="Keys").get_by_role("link", name="Revoke").first.click()


def open_a_receipt(page: Page, _: World) -> None:
    page.get_by_role("region", name="Requests").get_by_role("link").first.click()


def ask_for_deletion(page: Page, world: World) -> None:
    _leave(page, world)


def follow_the_link(page: Page, world: World) -> None:
    address = _leave(page, world)
    page.goto(_link_to(world, address, DELETION))


def delete_an_account(page: Page, world: World) -> None:
    follow_the_link(page, world)
    page.get_by_role("button", name="Delete the account").click()


def _leave(page: Page, world: World) -> str:
    """Request the deletion of a new account; return its address."""
    address, key = world.site.open_account(f"leaver{next(_numbers)}@example.com")
    page.goto(f"{world.site.url}/dashboard?key={key}")
    page.goto(f"{world.site.url}/dashboard/delete")
    page.get_by_role("button", name="Email me a confirmation link").click()
    page.get_by_role("heading", name="Check your email").wait_for()
    return address


def follow_a_reissue_link(page: Page, world: World) -> None:
    """Follow a reissue link, as if KEY_REISSUE_CONFIRM were set."""
    books = world.site.books
    address, _ = world.site.open_account(f"loser{next(_numbers)}@example.com")
    with books.app.app_context(), transaction():
        outbox.add("confirm_reissue", address, user_id=accounts.find(email=address).id)
    page.goto(_link_to(world, address, REISSUE))


def reissue(page: Page, world: World) -> None:
    follow_a_reissue_link(page, world)
    page.get_by_role("main").get_by_role("button").click()


def _link_to(world: World, address: str, subject: str) -> str:
    """Return the link in a mail to an address."""
    found = re.search(rf"{world.site.url}\S+", world.site.wait_for_mail(address, subject))
    assert found is not None
    return found.group()


@contextmanager
def stripe_fails(site: Site) -> Iterator[None]:
    """Make Stripe fail to create checkouts."""
    site.switch("stripe", "faults", route="POST /v1/checkout/sessions", status=500)
    yield
    site.switch("stripe", "faults/clear")


@contextmanager
def a_bug(site: Site) -> Iterator[None]:
    """Rename a table that every page needs."""
    site.books.rows("ALTER TABLE orders RENAME TO orders_elsewhere")
    yield
    site.books.rows("ALTER TABLE orders_elsewhere RENAME TO orders")


@contextmanager
def no_answer(site: Site) -> Iterator[None]:
    """Lock a table, so that the database does not answer in time."""
    connection = psycopg2.connect(site.runtime["DATABASE_URL"])
    connection.cursor().execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
    yield
    connection.close()


@contextmanager
def busy_servers(site: Site) -> Iterator[None]:
    """Run conversations in every slot, and let requests of two accounts wait for one."""
    keys = [
        site.open_account(f"{name}{next(_numbers)}@example.com", paid_tokens=1_000_000)[1]
        for name in ("katherine.johnson", "a-very-long-address-of-a-department-that-shares-it")
    ]
    site.ask(keys[0])
    name_slots(site.runtime["REDIS_URL"] or "", site.runtime["LLAMA_BASE_URL"] or "")
    site.ask(keys[1])
    with ExitStack() as streams:
        for key in (keys[0], keys[1], *keys, *keys, keys[1]):
            stream = Client(site.url, key).open(messages=sim("tokens=9000 delay_ms=100"))
            streams.enter_context(stream)
        metrics = partial(urlopen, f"{site.url}/metrics", timeout=10)
        wait_until(lambda: b"promptly_queue_length 0.0" not in metrics().read(), 30, "a queue")
        yield


def drain_a_server(page: Page, _: World) -> None:
    page.get_by_role("link", name="Drain").first.click()


@contextmanager
def a_drained_server(site: Site) -> Iterator[None]:
    url = site.runtime["LLAMA_BASE_URL"]
    site.books.rows(
        "INSERT INTO drained_upstreams (url, by, note) VALUES (:url, 'panel:ada', 'new kernel')",
        url=url,
    )
    yield
    site.books.rows("DELETE FROM drained_upstreams")


def resume_a_server(page: Page, _: World) -> None:
    page.get_by_role("link", name="Resume").first.click()


@contextmanager
def a_silent_process(site: Site) -> Iterator[None]:
    """Add a running request and one of a dead process; the sweep leaves both alone."""
    site.books.rows("UPDATE sweep_states SET grace_until = now() + interval '1 hour'")
    now = datetime.now(UTC)
    with site.books.app.app_context(), transaction():
        user_id = factories.user(paid_tokens=100_000).id
        alive, dead = (factories.hold(user_id, held_paid=9_000) for _ in range(2))
        alive.created_at, alive.checkpoint_at = now - timedelta(seconds=70), now
        alive.prompt_tokens, alive.completion_tokens = 81_204, 377
        dead.request_id = DEAD_REQUEST
        dead.created_at, dead.checkpoint_at = (
            now - timedelta(seconds=90),
            now - timedelta(minutes=1),
        )
        dead.prompt_tokens = 4_096
    yield
    with site.books.app.app_context(), transaction():
        account_deletion.remove(user_id)
    site.books.rows("UPDATE sweep_states SET grace_until = NULL")


@contextmanager
def suspended(site: Site) -> Iterator[None]:
    """Suspend the newcomer's account, which has limits of its own."""
    site.books.rows(
        "UPDATE users SET suspended_at = now(), requests_per_minute = 600, concurrent_requests = 20"
        " WHERE email = 'newcomer@example.com'"
    )
    yield
    site.books.rows(
        "UPDATE users"
        " SET suspended_at = NULL, requests_per_minute = NULL, concurrent_requests = NULL"
    )
