"""Paging of long lists in the panel: the requested position, and links to adjacent pages."""

from typing import Any

from flask import request, url_for

from promptly.blueprints.admin.fields import LARGEST_ID
from promptly.services.paging import NEWEST, Cursor, Page


def cursor() -> Cursor:
    """Return the start of the requested page; the newest page if the URL is invalid."""
    before, after = number("before"), number("after")
    if before is None and after is None:
        return NEWEST
    return Cursor(before_id=before, after_id=after)


def number(name: str) -> int | None:
    """Return a positive number from the URL, or None."""
    written = request.args.get(name, "")
    if not (written.isascii() and written.isdecimal() and len(written) < 20):
        return None
    return int(written) if 0 < int(written) <= LARGEST_ID else None


def links(page: Page[Any]) -> tuple[str | None, str | None]:
    """Return the URLs of the newer and the older page, each None if there is no such page."""
    return _link(page.newer), _link(page.older)


def here(**changed: object) -> str:
    """Return this page's URL with some arguments changed, or removed if they are None."""
    arguments: dict[str, Any] = dict(request.view_args or {})
    arguments |= {name: value for name, value in request.args.items() if name != "key"}
    arguments |= changed
    kept = {name: value for name, value in arguments.items() if value not in (None, "")}
    return url_for(request.endpoint or "admin.overview", **kept)


def _link(at: Cursor | None) -> str | None:
    return None if at is None else here(before=at.before_id, after=at.after_id, act=None)
