"""Checkout, purchase and receipt pages of signed-in customers."""

from flask import (
    Blueprint,
    Response,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.page_headers import add_page_headers
from promptly.blueprints.purchases import checkout, purchases, receipt
from promptly.blueprints.site import sessions
from promptly.blueprints.site.origins import refuse_foreign_posts
from promptly.extensions import csrf

# Provider pages and mails lead here, perhaps in another browser than the one that started the
# checkout.
PUBLIC = frozenset({"purchases.show", "purchases.receipt"})

blueprint = Blueprint("purchases", __name__)
blueprint.add_url_rule("/checkout", "checkout", checkout.start, methods=["POST"])
blueprint.add_url_rule("/checkout/<number>", "show", purchases.purchase)
blueprint.add_url_rule("/purchases", "history", purchases.history)
blueprint.add_url_rule("/purchases/<number>/receipt", "receipt", receipt.receipt)


@blueprint.before_request
def guard() -> AnyResponse | None:
    """Require a session, and a CSRF token on forms sent with one."""
    if request.method == "POST":
        refuse_foreign_posts()
        if "key_id" in session:
            csrf.protect()
    signed_in = sessions.current()
    if signed_in is not None:
        sessions.use(signed_in.key, signed_in.session_id)
        return None
    session.clear()
    if request.endpoint in PUBLIC:
        # No look-up: the page must not reveal whether the purchase exists.
        return make_response(render_template("purchase_signed_out.html"), 401)
    return redirect(url_for("site.index"), 303)


@blueprint.after_request
def finish(response: Response) -> Response:
    """Add the security headers, and keep pages of an account out of caches."""
    response.headers.setdefault("Cache-Control", "no-store")
    return add_page_headers(response)
