"""Whether a person's browser asks, or a program."""

from flask import request


def is_navigation() -> bool:
    """Whether this request is a browser going to a page.

    Browsers say so by `Sec-Fetch-Mode`, but not over plain http to another machine; there they
    still ask for upgraded links, which no program does.
    """
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is None:
        return request.headers.get("Upgrade-Insecure-Requests") == "1"
    return mode == "navigate"
