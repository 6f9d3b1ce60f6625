"""Pages of long lists in the panel: where one begins, and the links to those beside it."""

from typing import Any

from flask import request, url_for

from promptly.blueprints.admin.fields import LARGEST_ID
from promptly.services.paging import NEWEST, Cursor, Page


def cursor() -> Cursor:
    """Where the page that was asked for begins; the newest if that is not to be understood."""
    before, after = number("before"), number("after")
    if before is None and after is None:
        return NEWEST
    return Cursor(before_id=before, after_id=after)


def number(name: str) -> int | None:
    """A positive number from the URL, or None."""
    written = request.args.get(name, "")
    if not (written.isascii() and written.isdecimal() and len(written) < 20):
        return None
    return int(written) if 0 < int(written) <= LARGEST_ID else None


def links(page: Page[Any]) -> tuple[str | None, str | None]:
    """The URLs of the newer page and of the older one, None where there is none."""
    return _link(page.newer), _link(page.older)


def here(**changed: object) -> str:
    """This page's own URL with some arguments changed, or left out where they are None."""
    arguments: dict[str, Any] = dict(request.view_args or {})
    arguments |= {name: value for name, value in request.args.items() if name != "key"}
    arguments |= changed
    kept = {name: value for name, value in arguments.items() if value not in (None, "")}
    return url_for(request.endpoint or "admin.overview", **kept)


def _link(at: Cursor | None) -> str | None:
    return None if at is None else here(before=at.before_id, after=at.after_id, act=None)
