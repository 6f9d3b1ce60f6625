"""Forms that another site makes a browser send are refused; clients without a browser are not."""

from urllib.parse import urlsplit

from flask import current_app, request

from promptly.errors import Forbidden
from promptly.settings import Settings


def refuse_foreign_posts() -> None:
    """Raise Forbidden if a browser says that this form was on a page of another site.

    Without a session there is no token to compare, and none is needed: browsers say where a form
    comes from, and what says nothing is no browser that could be misused.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site in {"same-origin", "none"}:
        return
    origin = request.headers.get("Origin")
    if site is None and origin is None:
        return
    settings: Settings = current_app.extensions["settings"]
    own = {request.host.lower(), urlsplit(settings.base_url).netloc.lower()}
    if site is None and origin is not None and urlsplit(origin).netloc.lower() in own:
        return
    raise Forbidden("This form was sent from another site.")
