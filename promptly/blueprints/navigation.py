"""Detection of browser navigation, as opposed to requests by programs."""

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
