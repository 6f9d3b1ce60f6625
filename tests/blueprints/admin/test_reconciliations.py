"""Reconciliations with the providers: their reports, and starting one on demand."""

import redis
from flask import Flask
from sqlalchemy import text

from promptly.tasks import payments
from promptly.transactions import transaction
from tests.blueprints.admin.panel import XSS, Panel
from tests.support.shop import Shop


def test_without_a_provider_there_is_nothing_to_compare(pages: Panel) -> None:
    words = pages.words("/admin/reconciliations")
    assert "No payment provider is configured" in words and "Reconcile with" not in words


def test_a_reconciliation_is_requested_run_and_reported(
    shop: Shop, shop_pages: Panel, redis_url: str
) -> None:
    user_id = shop.account()
    shop.buy(user_id)
    assert "No reconciliation has run yet." in shop_pages.words("/admin/reconciliations")
    path = "/admin/reconciliations"
    location = shop_pages.post(path, shop_pages.form(path))
    assert "Reconciliation requested." in shop_pages.words(location)
    assert [act[0] for act in shop_pages.audited()] == ["payment.reconcile"]
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("payments") >= 1
    with shop.app.app_context():
        payments.reconcile.run("panel")
    words = shop_pages.words(path)
    assert "complete panel" in words and "open → paid" in words
    assert shop.paid_tokens(user_id) == 25_000_000


def test_problems_are_shown_as_text(pages: Panel) -> None:
    with pages.app.app_context(), transaction() as session:
        session.execute(
            text("""
                INSERT INTO payment_reconciliations (actor, leased_until, finished_at, report)
                VALUES (:evil, now(), now(), jsonb_build_object(
                    'problems', jsonb_build_array(CAST(:evil AS text)), 'changed', '[]'::jsonb))
            """), {"evil": XSS}
        )  # fmt: skip
        session.execute(
            text("INSERT INTO payment_reconciliations (actor, leased_until) VALUES ('x', now())")
        )
    words = pages.words("/admin/reconciliations")
    assert "incomplete" in words and "running or interrupted" in words


def test_a_form_without_its_token(admin_app: Flask, pages: Panel) -> None:
    pages.post("/admin/reconciliations", {}, 400)
    assert pages.audited() == []
