"""Registration: one form, with the same answer for known and unknown addresses.

The answer, and the time it takes, must not depend on whether an address is known, nor on whether
a trial was granted: that depends on how many addresses were new.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Response, current_app, jsonify, make_response, render_template, request

from promptly.blueprints.site.limits import by_client, by_mailbox, refused_by_client
from promptly.errors import InvalidRequest, NotFound
from promptly.services.accounts import accounts, email_addresses
from promptly.services.accounts.challenges import Challenges
from promptly.services.mail import messages
from promptly.settings import Settings, current_settings
from promptly.transactions import transaction

# Longer than a registration takes on a busy machine.
ANSWER_SECONDS = 0.5

LINK_SPENT = "This link has expired or has already been used. Request a new key again."


def register() -> Response:
    """On GET, show the form; on POST, register the address."""
    settings = current_settings()
    if request.method != "POST":
        return _form(settings)
    email = request.form.get("email", "").strip()
    try:
        email_addresses.normalise(email)
        if settings.registration_challenge == "altcha":
            _challenges().spend(request.form.get("altcha", ""))
    except InvalidRequest as problem:
        return _refuse(settings, email, problem)
    return _submit(settings, email)


def challenge() -> Response:
    """Return a new challenge as JSON; raises NotFound if registration needs none."""
    if current_settings().registration_challenge != "altcha":
        raise NotFound("Registration needs no challenge here.")
    response = jsonify(_challenges().create())
    response.headers["Cache-Control"] = "no-store"
    return response


@refused_by_client
def _refuse(settings: Settings, email: str, problem: InvalidRequest) -> Response:
    return _form(settings, email=email, problem=problem)


@by_client
def _submit(settings: Settings, email: str) -> Response:
    with _held_back():
        return _register(settings, email)


@by_mailbox
def _register(settings: Settings, email: str) -> Response:
    with transaction():
        accounts.register(email, settings)
    return make_response(
        render_template("registered.html", email=email, may_ask=settings.key_reissue_confirm)
    )


@contextmanager
def _held_back() -> Iterator[None]:
    """Let every outcome take equally long; the wait holds no transaction or connection."""
    began = time.monotonic()
    try:
        yield
    finally:
        time.sleep(max(began + ANSWER_SECONDS - time.monotonic(), 0.0))


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


def _challenges() -> Challenges:
    challenges: Challenges = current_app.extensions["registration_challenges"]
    return challenges


def _form(
    settings: Settings, *, email: str = "", problem: InvalidRequest | None = None
) -> Response:
    errors = {} if problem is None else {problem.param: problem.message}
    response = make_response(
        render_template(
            "register.html",
            email=email,
            errors=errors,
            challenge=settings.registration_challenge == "altcha",
            trial_tokens=settings.trial_tokens,
            trial_expiry_days=settings.trial_expiry_days,
            trials_limited=settings.limits_trials,
        )
    )
    response.status_code = 200 if problem is None else problem.status
    return response
