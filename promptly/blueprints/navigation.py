"""Requests of browsers: whether one opens a page, and its query without a key."""

from urllib.parse import urlencode

from flask import request


def is_navigation() -> bool:
    """Return whether this request is a browser opening a page.

    Browsers send `Sec-Fetch-Mode`, except over plain http to another machine; there they still
    send `Upgrade-Insecure-Requests`, unlike other programs.
    """
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is None:
        return request.headers.get("Upgrade-Insecure-Requests") == "1"
    return mode == "navigate"


def query_without_key() -> str:
    """Return the query of this request without `key`, from its question mark on; may be empty.

    Never pass a query to `url_for` by name: `endpoint`, `_method` and others mean something there.
    """
    others = [(name, value) for name, value in request.args.items(multi=True) if name != "key"]
    return f"?{urlencode(others)}" if others else ""
