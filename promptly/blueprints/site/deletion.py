"""Account deletion by its owner: requested on the dashboard, confirmed by email."""

from flask import Response, g, make_response, render_template, request, session

from promptly.blueprints.site import sessions
from promptly.blueprints.site.limits import DELETION_MAILS
from promptly.errors import InvalidRequest
from promptly.extensions import limiter
from promptly.models import ApiKey
from promptly.services import account_deletion
from promptly.services.accounts import accounts
from promptly.services.ledger import balances
from promptly.services.mail import messages, outbox
from promptly.services.mail.outbox import LINK_HOURS
from promptly.settings import current_settings
from promptly.transactions import transaction

LINK_SPENT = "This link has expired, has already been used, or was replaced by a newer email."


def ask() -> Response:
    """On GET, explain what is deleted and what is kept; on POST, email a confirmation link."""
    key: ApiKey = g.key
    user_id = key.user_id
    email = accounts.find(user_id=user_id).email
    if request.method != "POST":
        balance = balances.read(user_id)
        return make_response(
            render_template(
                "dashboard/delete.html", email=email, balance=balance, link_hours=LINK_HOURS
            )
        )
    with (
        limiter.shared_limit(DELETION_MAILS, scope="deletion", key_func=lambda: str(user_id)),
        transaction(),
    ):
        accounts.ask_to_delete(user_id)
    return make_response(
        render_template("dashboard/deletion_requested.html", email=email, link_hours=LINK_HOURS)
    )


def confirm() -> Response:
    """On GET, show the confirmation button of an emailed link; on POST, delete the account.

    Mail scanners follow links, so only the button has an effect.
    """
    settings = current_settings()
    token = request.values.get("token", "")
    link = messages.read_token("confirm_deletion", token, settings)
    if link is None or not outbox.link_is_valid("confirm_deletion", *link):
        raise InvalidRequest(LINK_SPENT)
    user_id, mail_id = link
    if request.method != "POST":
        email = accounts.find(user_id=user_id).email
        return make_response(
            render_template("dashboard/confirm_deletion.html", token=token, email=email)
        )
    signed_in = sessions.current()
    is_own = signed_in is not None and signed_in.key.user_id == user_id
    if not account_deletion.confirm(user_id, mail_id, settings):
        # The link was spent after the check above: the account stays, and so does its session.
        raise InvalidRequest(LINK_SPENT)
    if is_own:
        session.clear()
    return make_response(render_template("dashboard/deleted.html"))
