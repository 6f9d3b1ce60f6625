"""Registration: one form, and one answer for known and unknown addresses."""

import time

from flask import Response, current_app, make_response, render_template, request

from promptly.blueprints.site.limits import limit_registration
from promptly.errors import InvalidRequest
from promptly.services.accounts import accounts
from promptly.services.mail import messages
from promptly.settings import Settings
from promptly.transactions import transaction

# Longer than a registration takes, by far.
ANSWER_SECONDS = 0.05

LINK_SPENT = "This link has been used already, or is too old. Ask for a new key once more."


@limit_registration
def register() -> Response:
    """Show the form; register what it holds."""
    settings: Settings = current_app.extensions["settings"]
    if request.method != "POST":
        return _form(settings)
    began = time.monotonic()
    email = request.form.get("email", "").strip()
    try:
        with transaction():
            accounts.register(email, settings)
    except InvalidRequest as problem:
        return _form(settings, email=email, error=problem.message, status=400)
    # A known address takes up to a millisecond less than a new one, which nobody is to measure.
    time.sleep(max(began + ANSWER_SECONDS - time.monotonic(), 0.0))
    return make_response(
        render_template("registered.html", email=email, may_ask=settings.key_reissue_confirm)
    )


def confirm() -> Response:
    """Show the button behind a mailed link; reissue the key when it is pressed.

    A mail scanner follows links, so only the button does anything.
    """
    settings: Settings = current_app.extensions["settings"]
    token = request.values.get("token", "")
    link = messages.read_token("confirm_reissue", token, settings)
    if link is None:
        raise InvalidRequest(LINK_SPENT)
    if request.method != "POST":
        return make_response(render_template("confirm_reissue.html", token=token))
    with transaction():
        done = accounts.confirm_reissue(*link)
    if not done:
        raise InvalidRequest(LINK_SPENT)
    return make_response(render_template("reissued.html"))


def _form(
    settings: Settings, *, email: str = "", error: str | None = None, status: int = 200
) -> Response:
    response = make_response(
        render_template(
            "register.html",
            email=email,
            error=error,
            trial_tokens=settings.trial_tokens,
            trial_expiry_days=settings.trial_expiry_days,
        )
    )
    response.status_code = status
    return response
