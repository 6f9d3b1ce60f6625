"""Registration: one form, with the same answer for known and unknown addresses."""

import time

from flask import Response, make_response, render_template, request

from promptly.blueprints.site.limits import limit_registration
from promptly.errors import InvalidRequest
from promptly.services.accounts import accounts
from promptly.services.mail import messages
from promptly.settings import Settings, current_settings
from promptly.transactions import transaction

# Far longer than a registration takes.
ANSWER_SECONDS = 0.05

LINK_SPENT = "This link has expired or has already been used. Request a new key again."


@limit_registration
def register() -> Response:
    """On GET, show the form; on POST, register the address."""
    settings = current_settings()
    if request.method != "POST":
        return _form(settings)
    began = time.monotonic()
    email = request.form.get("email", "").strip()
    try:
        with transaction():
            accounts.register(email, settings)
    except InvalidRequest as problem:
        return _form(settings, email=email, error=problem.message, status=400)
    # A known address is handled up to a millisecond faster; hide that from timing attacks.
    time.sleep(max(began + ANSWER_SECONDS - time.monotonic(), 0.0))
    return make_response(
        render_template("registered.html", email=email, may_ask=settings.key_reissue_confirm)
    )


def confirm() -> Response:
    """On GET, show the confirmation button of an emailed link; on POST, reissue the key.

    Mail scanners follow links, so only the button has an effect.
    """
    settings = current_settings()
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
            trials_limited=settings.limits_trials,
        )
    )
    response.status_code = status
    return response
