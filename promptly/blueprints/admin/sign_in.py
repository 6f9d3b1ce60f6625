"""Signing in to the panel, by a link with the key or a form, and signing out."""

import re
from urllib.parse import parse_qs

from flask import Response, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.admin import access, actor, sessions
from promptly.blueprints.navigation import is_navigation, query_without_key
from promptly.errors import Forbidden
from promptly.services import panel_sessions
from promptly.transactions import transaction

# A path of the panel, perhaps with a query as `urlencode` writes it.
_PAGE = re.compile(r"/admin(/[A-Za-z0-9_-]+)*(\?[A-Za-z0-9_.~%+=&-]*)?", re.ASCII)
LONGEST_PAGE = 500


def page(*, error: str | None = None, wanted: str | None = None) -> Response:
    """Return the sign-in form, with status 403, in place of the requested page."""
    wanted = wanted or f"{request.path}{query_without_key()}"
    if not is_page(wanted):
        wanted = request.path
    response = make_response(render_template("admin/sign_in.html", error=error, wanted=wanted), 403)
    if is_navigation() and request.headers.get("Sec-Fetch-Site") == "cross-site":
        # On a link from another site, browsers withhold the SameSite=Strict cookie; a refresh of
        # this page sends it.
        response.headers["Refresh"] = "0"
    return response


def enter_by_url(name: str) -> AnyResponse | None:
    """Open the operator's session for a browser, and redirect to the URL without the key.

    Returns None for other clients: they get the page itself.
    """
    if not is_navigation():
        return None
    return _open(f"{request.path}{query_without_key()}", name)


def open_session() -> AnyResponse:
    """Sign in with the key of the form."""
    wanted = request.form.get("next", "")
    if not is_page(wanted):
        wanted = url_for("admin.overview")
    try:
        name = access.check_key(request.form.get("key", ""), g.admin_address)
    except Forbidden:
        return page(error="Incorrect key.", wanted=wanted)
    return _open(wanted, name)


def is_page(target: str) -> bool:
    """Return whether this is a page of the panel, to which a redirect after sign-in may lead.

    It may be on no other host, and have no key, which would stay in the browser's history.
    """
    if len(target) > LONGEST_PAGE or _PAGE.fullmatch(target) is None:
        return False
    return "key" not in parse_qs(target.partition("?")[2], keep_blank_values=True)


def end_session() -> AnyResponse:
    response = redirect(url_for("admin.overview"), 303)
    session: sessions.PanelSession | None = g.get("panel_session")
    if session is not None:
        with transaction():
            actor.record("session.end")
            panel_sessions.end(session.session_id)
        sessions.forget(response)
    return response


def _open(target: str, name: str) -> AnyResponse:
    actor.use_panel(name)
    with transaction():
        actor.record("session.open")
    response = redirect(target, 303)
    sessions.write(response, sessions.start(name))
    return response
