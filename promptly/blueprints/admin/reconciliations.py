"""Reconciliation with the payment providers: the reports, and a new run on demand."""

from flask import g, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import labels
from promptly.blueprints.admin import actor, flash_messages
from promptly.services.payments import reconciliation
from promptly.services.payments.providers import registry
from promptly.settings import current_settings
from promptly.transactions import enqueue, transaction

MOST_SHOWN = 50


def index() -> str:
    """List the newest runs with their reports."""
    settings = current_settings()
    return render_template(
        "admin/reconciliations.html",
        runs=reconciliation.newest(MOST_SHOWN),
        providers=[labels.PROVIDERS[name] for name in registry.offered(settings)],
        notice=flash_messages.notice(),
    )


def begin() -> AnyResponse:
    """Enqueue a reconciliation: it takes too long for a web request."""
    with transaction():
        enqueue("promptly.tasks.payments.reconcile", g.actor)
        act = actor.record("payment.reconcile")
    return redirect(url_for("admin.reconciliations", act=act), 303)
