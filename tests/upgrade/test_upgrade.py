"""An upgrade under load: old alone, old on the new schema, both side by side, new alone.

UPGRADE_QUICK shortens each phase.
"""

import os
from functools import partial
from pathlib import Path

import pytest

from sandbox.checkout import Code
from sandbox.process import wait_until
from tests.support.browser import KEY, Browser
from tests.support.kinds import KINDS, PLAIN, STREAMED
from tests.support.process_stack import say
from tests.upgrade import books, customers
from tests.upgrade.scene import METHODS, Scene, populate, prepared, start_old
from tests.upgrade.traffic import Traffic, call

pytestmark = [
    pytest.mark.alone,
    pytest.mark.exhaustive,
    pytest.mark.git,
    pytest.mark.network,
    pytest.mark.timeout(900),
]

# Seconds of load, and answers of each kind, per phase: old, old on the new schema, both, new.
PHASES = ((20, 10), (15, 10), (45, 20), (30, 20))
QUICK_PHASES = ((4, 2), (3, 2), (8, 4), (5, 4))
LONG = "tokens=400 delay_ms=25"
LONG_STREAMS = 6
PACK_TOKENS = 25_000_000


def test_an_upgrade_under_load_fails_no_request(tmp_path: Path, code_before: Code) -> None:
    phases = QUICK_PHASES if os.environ.get("UPGRADE_QUICK") else PHASES
    with prepared(tmp_path / "stack", code_before) as scene:
        start_old(scene)
        populate(scene)
        with Traffic(scene.front.port, len(KINDS) + 1 + LONG_STREAMS) as traffic:
            for kind in KINDS:
                customer = scene.clients[kind.name]
                traffic.repeat(customer.key, customer.user_id, kind)
            newcomer = scene.clients["newcomer"]
            traffic.repeat(newcomer.key, newcomer.user_id, STREAMED)
            traffic.go_on(*phases[0])
            _leave_mail_to_send(scene)
            taken = scene.new.migrate()
            traffic.go_on(*phases[1])
            _run_both(scene)
            scene.pay("stripe")
            _share_keys_and_sessions(scene, traffic)
            traffic.go_on(*phases[2])
            drained = _end_old(scene, traffic)
            scene.pay("btcpay")
            traffic.go_on(*phases[3])
            traffic.finish()
        assert traffic.failed() == []
        _check_people(scene, traffic)
        _check_books(scene, traffic)
        say(
            f"{len(traffic.calls)} requests, none failed; migrations took {taken:.1f} s,"
            f" the drain {drained:.1f} s"
        )


def _leave_mail_to_send(scene: Scene) -> None:
    """Let the mail server refuse a mail for now, so that either worker may send it."""
    scene.stack.mail.fail_with(451)
    customers.ask_for_account(scene.front.url, "late@example.com")
    waiting = "SELECT 1 FROM outbox WHERE state = 'pending' AND attempts > 0"
    wait_until(lambda: bool(scene.stack.books.rows(waiting)), 30, "a refused mail")


def _run_both(scene: Scene) -> None:
    scene.new.gateway.start()
    scene.new.start_background()
    scene.front.route_to(scene.old.gateway, scene.new.gateway)
    # Every webhook arrives twice from now on, at either release.
    scene.stripe.set_rule("duplicate", copies=2)
    scene.btcpay.set_rule("duplicate", copies=2)


def _share_keys_and_sessions(scene: Scene, traffic: Traffic) -> None:
    """Create keys and sessions on each side; all of them are good on the other side, too."""
    buyer, browser = scene.buyers["stripe"], scene.browsers["stripe"]
    old, new = (release.gateway for release in (scene.old, scene.new))
    made = [browser.at(old.url).create_key("old"), browser.at(new.url).create_key("new")]
    for release in (scene.old, scene.new):
        named = ("--email", buyer.email, "--name", f"command {release.name}")
        made.append(release.flask_json("keys", "create", *named)["key"])
    for key in made:
        for gateway in (old, new):
            traffic.calls.append(call(gateway.port, key, buyer.user_id, PLAIN))
    for first, other in ((old, new), (new, old)):
        fresh = Browser(first.url)
        assert fresh.sign_in(buyer.key) == 303
        assert fresh.is_signed_in() and fresh.at(other.url).is_signed_in()
    # The dashboard of a release with scopes creates keys for the API only, and refuses them.
    assert Browser(new.url).sign_in(made[1]) == 403


def _end_old(scene: Scene, traffic: Traffic) -> float:
    """Take the old release out of rotation amid long streams, and end it; return the seconds."""
    customer = scene.clients["streamed"]
    long = [
        traffic.start(customer.key, customer.user_id, STREAMED, LONG) for _ in range(LONG_STREAMS)
    ]
    wait_until(lambda: all(made.started_at for made in long), 10, "long streams")
    traffic.go_on(1, 1)
    scene.front.route_to(scene.new.gateway)
    drained = scene.old.drain()
    scene.old.stop_background()
    return drained


def _check_people(scene: Scene, traffic: Traffic) -> None:
    """Assert that keys, sessions, links and mails of before are good on the new release alone."""
    url, port = scene.front.url, scene.front.port
    for customer in scene.everybody:
        made = call(port, customer.key, customer.user_id, PLAIN)
        assert not made.problem
        traffic.calls.append(made)
    for method in METHODS:
        assert scene.browsers[method].is_signed_in()
    assert scene.operator is not None and scene.operator.is_in_panel()
    assert Browser(url).follow(scene.link) == 200
    gone = scene.stack.books.rows("SELECT 1 FROM users WHERE email = 'leaver@example.com'")
    assert not gone
    late = customers.mailed(scene.stack.mail, "late@example.com", KEY, 120)
    assert customers.balance(url, late) > 0


def _is_empty(scene: Scene, query: str) -> bool:
    return not scene.stack.books.rows(query)


def _check_books(scene: Scene, traffic: Traffic) -> None:
    stack = scene.stack
    for what in (
        "SELECT 1 FROM holds WHERE state = 'open'",
        "SELECT 1 FROM orders WHERE credited_at IS NULL",
        "SELECT 1 FROM webhook_events WHERE state = 'pending'",
        "SELECT 1 FROM outbox WHERE state = 'pending'",
    ):
        wait_until(partial(_is_empty, scene, what), 150, what)
    charged = books.check_charges(stack, traffic.calls)
    credits = {scene.buyers[method].user_id: PACK_TOKENS for method in METHODS}
    books.check_balances(stack, scene.everybody, charged, credits)
    books.check_payments(stack, len(METHODS))
    kinds = books.check_mails(stack)
    stack.check_books()
    scene.new.flask("ledger", "verify")
    say(f"charged: {sum(charged.values())} tokens of {len(charged)} accounts; mails: {dict(kinds)}")
