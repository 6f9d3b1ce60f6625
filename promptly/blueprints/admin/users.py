"""The list of accounts, with search, sorting and paging."""

from flask import render_template, request

from promptly.blueprints.admin import flash_messages, pages
from promptly.services import paging
from promptly.services.accounts import directory
from promptly.services.accounts.directory import ORDERS, Place
from promptly.services.accounts.email_addresses import MAX_LENGTH
from promptly.services.paging import Cursor


def users() -> str:
    part = request.args.get("q", "").replace("\x00", "").strip()[:MAX_LENGTH]
    order = request.args.get("sort", "")
    order = order if order in ORDERS else directory.JOINED
    # By default, addresses are sorted alphabetically, everything else largest or newest first.
    usual = "asc" if order == directory.EMAIL else "desc"
    direction = request.args.get("dir", "")
    direction = direction if direction in {"asc", "desc"} else usual
    page = directory.page(
        part=part,
        order=order,
        descending=direction == "desc",
        at=_cursor(order),
        limit=paging.PAGE_SIZE,
    )
    return render_template(
        "admin/users.html",
        notice=flash_messages.notice(),
        q=part,
        accounts=page.rows,
        headers={name: _header(name, order, direction) for name in ORDERS},
        previous=page.previous and pages.here(before=page.previous.key, after=None, act=None),
        following=page.next and pages.here(after=page.next.key, before=None, act=None),
    )


def _cursor(order: str) -> Cursor:
    before = Place.parse(order, request.args.get("before", ""))
    if before is not None:
        return Cursor(before, backwards=True)
    return Cursor(Place.parse(order, request.args.get("after", "")))


def _header(name: str, order: str, direction: str) -> dict[str, str | None]:
    """Return how a column is sorted, and the link of its heading."""
    is_sorted = name == order
    # A second click reverses the order.
    turned = ("asc" if direction == "desc" else "desc") if is_sorted else None
    link = pages.here(sort=name, dir=turned, before=None, after=None, act=None)
    sorted_as = {"asc": "ascending", "desc": "descending"}[direction] if is_sorted else None
    return {"link": link, "sorted": sorted_as}
