"""Signing in to the panel, by a link with the key or a form, and signing out."""

import re

from flask import Response, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.admin import access, actor, sessions
from promptly.blueprints.navigation import is_navigation, query_without_key
from promptly.errors import Forbidden
from promptly.transactions import transaction

_PAGE = re.compile(r"/admin(/[A-Za-z0-9_-]+)*", re.ASCII)


def page(*, error: str | None = None, wanted: str | None = None) -> Response:
    """Return the sign-in form, with status 403, in place of the requested page."""
    response = make_response(
        render_template("admin/sign_in.html", error=error, wanted=wanted or request.path), 403
    )
    if is_navigation() and request.headers.get("Sec-Fetch-Site") == "cross-site":
        # On a link from another site, browsers withhold the SameSite=Strict cookie; a refresh of
        # this page sends it.
        response.headers["Refresh"] = "0"
    return response


def enter_by_url() -> AnyResponse | None:
    """Open a session for a browser that sent the right key, and redirect to the URL without it.

    Returns None for other clients: they get the page itself.
    """
    if not is_navigation():
        return None
    return _open(f"{request.path}{query_without_key()}")


def open_session() -> AnyResponse:
    """Sign in with the key of the form."""
    wanted = request.form.get("next", "")
    if not is_page(wanted):
        wanted = url_for("admin.overview")
    try:
        access.check_key(request.form.get("key", ""), g.admin_address)
    except Forbidden:
        return page(error="Incorrect key.", wanted=wanted)
    return _open(wanted)


def is_page(path: str) -> bool:
    """Return whether this is a path of the panel: a redirect must not lead to another host."""
    return _PAGE.fullmatch(path) is not None


def end_session() -> AnyResponse:
    response = redirect(url_for("admin.overview"), 303)
    if g.get("panel_session") is not None:
        with transaction():
            actor.record("session.end")
        sessions.end(response, g.panel_session)
    return response


def _open(target: str) -> AnyResponse:
    g.actor = actor.PANEL
    with transaction():
        actor.record("session.open")
    response = redirect(target, 303)
    sessions.write(response, sessions.start())
    return response
