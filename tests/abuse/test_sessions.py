"""Copied cookies of sessions that have ended, and links that switch the account."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest

from tests.abuse.arena import Arena
from tests.abuse.browser import NAVIGATION, Browser
from tests.abuse.sockets import at_once
from tests.support.books import Account

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

STOLEN = 5
CROWD = 10
LINKS_EACH = 4

PAGES = ("/dashboard", "/dashboard/requests", "/dashboard/usage.csv", "/purchases")
FORMS = ("/dashboard/keys", "/dashboard/sessions/end", "/dashboard/delete", "/checkout")


def by_key(arena: Arena, account: Account) -> Browser:
    browser = Browser(arena.port)
    browser.sign_in(account.key)
    return browser


def before_an_update(arena: Arena, account: Account) -> Browser:
    """Return a browser with a cookie as releases without sessions on the server set it."""
    app = arena.stack.books.app
    with app.test_client() as client:
        with client.session_transaction() as session:
            session["key_id"] = account.key_id
            session.permanent = True
        cookie = client.get_cookie("promptly_session")
    assert cookie is not None
    return Browser(arena.port, f"promptly_session={cookie.value}")


def open_sessions(arena: Arena, account: Account) -> int:
    [row] = arena.stack.books.rows(
        "SELECT count(*) AS open FROM sessions WHERE user_id = :id AND ended_at IS NULL",
        id=account.user_id,
    )
    return int(row["open"])


@pytest.mark.parametrize(
    "sign_in", [by_key, pytest.param(before_an_update, marks=pytest.mark.exhaustive)]
)
def test_copied_cookies_of_ended_sessions(
    arena: Arena, sign_in: Callable[[Arena, Account], Browser]
) -> None:
    books = arena.stack.books
    accounts: list[Account] = []

    def steal() -> tuple[Browser, str]:
        """Copy a cookie just before its user signs out; return it with its form token."""
        account = books.account()
        accounts.append(account)
        browser = sign_in(arena, account)
        page = browser.get("/dashboard")
        assert (page.status, account.email in page.text) == (200, True)
        stolen = browser.copy()
        assert browser.post("/session/end", csrf_token=page.form_token).location == "/"
        return stolen, page.form_token

    def attack() -> None:
        stolen = itertools.cycle([steal() for _ in range(STOLEN)])

        def hammer() -> set[tuple[int, str | None]]:
            browser, token = next(stolen)
            pages = [browser.copy().get(path) for path in PAGES]
            forms = [
                browser.copy().post(path, csrf_token=token, name="mine", pack="p", method="stripe")
                for path in FORMS
            ]
            return {(page.status, page.location) for page in pages + forms}

        assert set().union(*at_once(CROWD, hammer)) == {(303, "/")}

    arena.withstand(attack)
    assert [open_sessions(arena, account) for account in accounts] == [0] * 2 * STOLEN
    ids = [account.user_id for account in accounts]
    [row] = books.rows("SELECT count(*) AS n FROM api_keys WHERE user_id = ANY(:ids)", ids=ids)
    assert row["n"] == len(accounts)
    [row] = books.rows("SELECT count(*) AS n FROM outbox WHERE user_id = ANY(:ids)", ids=ids)
    assert row["n"] == 0


@pytest.mark.parametrize(
    "path", ["/dashboard", pytest.param("/dashboard/delete", marks=pytest.mark.exhaustive)]
)
def test_links_that_switch_accounts(arena: Arena, path: str) -> None:
    victim, attacker = (arena.stack.books.account() for _ in range(2))
    signed_in = by_key(arena, victim)

    def follow() -> None:
        browser = signed_in.copy()
        for _ in range(LINKS_EACH):
            link = browser.get(f"{path}?key={attacker.key}", NAVIGATION)
            assert (link.status, link.location) == (303, "/session/switch")
            question = browser.get("/session/switch")
            assert victim.email in question.text and attacker.email in question.text
            # A page of another site cannot give the answer.
            answers = [
                browser.copy().post("/session/switch", headers, key_id=str(attacker.key_id))
                for headers in ({}, {"Sec-Fetch-Site": "cross-site"})
            ]
            assert [answer.status for answer in answers] == [400, 403]
            page = browser.get("/dashboard")
            assert victim.email in page.text and attacker.email not in page.text

    arena.withstand(partial(at_once, CROWD, follow))
    assert open_sessions(arena, attacker) == 0
    assert open_sessions(arena, victim) == 1
