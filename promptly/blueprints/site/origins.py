"""Refuse forms that a browser sends from another site; other clients are not affected."""

from urllib.parse import urlsplit

from flask import request

from promptly.errors import Forbidden
from promptly.settings import current_settings


def refuse_foreign_posts() -> None:
    """Raise Forbidden if a browser reports that this form was on a page of another site.

    Without a session there is no token to compare, and none is needed: browsers report the origin
    of a form, and a client that reports none is not a browser that another site could misuse.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site in {"same-origin", "none"}:
        return
    source = request.headers.get("Origin") or request.headers.get("Referer")
    if site is None and source is None:
        return
    own = {request.host.lower(), urlsplit(current_settings().base_url).netloc.lower()}
    if site is None and source is not None and _host(source) in own:
        return
    raise Forbidden("This form was sent from another site.")


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).netloc.lower() or None
    except ValueError:
        return None
