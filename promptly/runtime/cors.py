"""Cross-origin requests (CORS): whether pages of other sites may call /v1 and read its answers.

Keys are in headers and no cookie opens /v1, so a page gets nothing that a program with the same key
would not. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

Headers = tuple[tuple[str, str], ...]

ANY = "*"

# By their names: a browser takes no pattern, and `*` means all only without credentials.
EXPOSED = (
    "x-request-id",
    "request-id",
    "retry-after",
    "x-should-retry",
    "accept-encoding",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-promptly-request-id",
    "x-promptly-charged-tokens",
    "x-promptly-balance-tokens",
    "x-promptly-ignored",
)
# Also methods that no route has: the page may then read the refusal.
METHODS = "GET, POST, PUT, PATCH, DELETE"
# A day; browsers cap it, Chromium at two hours.
MAX_AGE_SECONDS = 24 * 3600

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_NAMES = re.compile(rf"{_NAME}(?:[ \t]*,[ \t]*{_NAME})*")
_NAMES_BYTES = 4096
_USUAL_NAMES = "authorization, content-type"


class Cors:
    """The headers for each origin, built once; `origins` is ANY, a list of origins, or empty."""

    def __init__(self, origins: Collection[str]) -> None:
        exposed = ("access-control-expose-headers", ", ".join(EXPOSED))
        vary = ("vary", "Origin")
        allowed = "access-control-allow-origin"
        self._listed: dict[str, Headers] = {}
        self._others: Headers = ()
        if ANY in origins:
            self._others = ((allowed, ANY), exposed)
        elif origins:
            self._listed = {origin: ((allowed, origin), exposed, vary) for origin in origins}
            self._others = (vary,)
        self._takes_any = ANY in origins

    def headers(self, origin: str) -> Headers:
        """Return the headers of every answer, errors included, to a request of this origin."""
        return self._listed.get(origin, self._others)

    def preflight(self, environ: Mapping[str, Any]) -> Headers | None:
        """Return the further headers that allow the request which a browser asks about.

        None if this is no preflight, or of an origin that is not allowed.
        """
        origin = environ.get("HTTP_ORIGIN")
        if origin is None or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return None
        if not self._takes_any and origin not in self._listed:
            return None
        # `*` would not cover Authorization.
        names = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        if len(names) > _NAMES_BYTES or not _NAMES.fullmatch(names):
            names = _USUAL_NAMES
        return (
            ("access-control-allow-methods", METHODS),
            ("access-control-allow-headers", names),
            ("access-control-max-age", str(MAX_AGE_SECONDS)),
        )
