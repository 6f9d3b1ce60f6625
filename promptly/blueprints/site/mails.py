"""The dashboard's form for email alerts."""

from flask import Response, g, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.site import dashboard
from promptly.errors import InvalidRequest
from promptly.models import ApiKey
from promptly.services.mail import alerts, security_alerts
from promptly.services.mail.alerts import Choice
from promptly.settings import current_settings
from promptly.transactions import transaction


def choose() -> AnyResponse | Response:
    """Save the form, or show it again with its error."""
    key: ApiKey = g.key
    settings = current_settings()
    entered = request.form.get("low_balance_tokens", "")
    wanted = "low_balance" in request.form
    try:
        tokens = _tokens(entered) if wanted else 0
    except InvalidRequest as problem:
        return dashboard.page(threshold=entered, threshold_error=problem.message, status=400)
    choice = Choice(tokens, trial_notice="trial_notice" in request.form)
    with transaction():
        alerts.choose(key.user_id, choice, settings)
        # A form that an older page still shows has no such box, and must not switch them off.
        if "offers_security_notice" in request.form:
            security_alerts.choose(key.user_id, wanted="security_notice" in request.form)
    return redirect(url_for("site.dashboard", saved="mails", _anchor="mails"), 303)


def _tokens(entered: str) -> int:
    """Parse a number of tokens, with or without separators; raise InvalidRequest."""
    digits = "".join(entered.split()).translate(str.maketrans("", "", ",._'"))
    number = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else 0
    if not 1 <= number <= alerts.MOST_TOKENS:
        raise InvalidRequest("Enter a number of tokens, such as 50,000.")
    return number
