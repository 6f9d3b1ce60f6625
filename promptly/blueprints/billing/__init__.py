"""Paying, and what the payment providers tell.

The pages need a session, and their forms a token; the webhooks are authorised by a signature over
what they carry.
"""

from flask import (
    Blueprint,
    Response,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.billing import checkout, purchases, webhooks
from promptly.blueprints.page_headers import add_page_headers
from promptly.blueprints.web import sessions
from promptly.blueprints.web.origins import refuse_foreign_posts
from promptly.extensions import csrf

SIGNED = frozenset({"billing.stripe_webhook", "billing.btcpay_webhook"})
# Where a provider's page leads to, which may be another browser than the one that began.
RETURNS = frozenset({"billing.purchase"})

blueprint = Blueprint("billing", __name__)
blueprint.add_url_rule("/checkout", "start", checkout.start, methods=["POST"])
blueprint.add_url_rule("/checkout/<number>", "purchase", purchases.purchase)
blueprint.add_url_rule("/purchases", "purchases", purchases.history)
blueprint.add_url_rule("/stripe/webhook", "stripe_webhook", webhooks.stripe, methods=["POST"])
blueprint.add_url_rule("/btcpay/webhook", "btcpay_webhook", webhooks.btcpay, methods=["POST"])


@blueprint.before_request
def guard() -> AnyResponse | None:
    """Refuse forged forms; whoever is not signed in learns nothing but that."""
    if request.endpoint in SIGNED:
        return None
    if request.method == "POST":
        refuse_foreign_posts()
        if "key_id" in session:
            csrf.protect()
    g.key = sessions.current_key()
    if g.key is not None:
        return None
    session.clear()
    if request.endpoint in RETURNS:
        # Nothing is looked up: the page is the same for purchases that are there and others.
        return make_response(render_template("purchase_signed_out.html"), 401)
    return redirect(url_for("web.index"), 303)


@blueprint.after_request
def finish(response: Response) -> Response:
    """Headers of every page; what belongs to an account is kept by no cache."""
    response.headers.setdefault("Cache-Control", "no-store")
    return add_page_headers(response)
