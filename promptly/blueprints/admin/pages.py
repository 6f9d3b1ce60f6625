"""Paging of long lists in the panel: the requested position, and links to adjacent pages."""

from typing import Any
from urllib.parse import urlencode

from flask import request, url_for

from promptly.blueprints.admin.fields import LARGEST_ID
from promptly.services.paging import Cursor, Page


def cursor() -> Cursor:
    """Return the start of the requested page; the newest page if the URL is invalid."""
    after = number("after")
    return Cursor(number("before")) if after is None else Cursor(after, backwards=True)


def number(name: str) -> int | None:
    """Return a positive number from the URL, or None."""
    written = request.args.get(name, "")
    if not (written.isascii() and written.isdecimal() and len(written) < 20):
        return None
    return int(written) if 0 < int(written) <= LARGEST_ID else None


def links(page: Page[Any]) -> tuple[str | None, str | None]:
    """Return the URLs of the newer and the older page, each None if there is no such page."""
    return _link("after", page.previous), _link("before", page.next)


def here(**changed: object) -> str:
    """Return this page's URL with some arguments changed, or removed if they are None."""
    arguments: dict[str, object] = dict(request.args.items())
    arguments |= changed | {"key": None}
    kept = {name: value for name, value in arguments.items() if value not in (None, "")}
    page = url_for(request.endpoint or "admin.overview", **(request.view_args or {}))
    return f"{page}?{urlencode(kept)}" if kept else page


def _link(name: str, at: Cursor | None) -> str | None:
    if at is None:
        return None
    changed: dict[str, object] = {"before": None, "after": None, "act": None}
    return here(**changed | {name: at.key})
