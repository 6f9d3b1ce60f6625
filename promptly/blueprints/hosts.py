"""Refusal of requests for a foreign host name, and redirects that name no host.

Such a request comes from a page that points another name at this address (DNS rebinding), or tries
to get that name into redirects. Flask's own check knows neither every address nor `/health`.
"""

import ipaddress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from werkzeug.routing import RequestRedirect
from werkzeug.sansio.utils import host_is_trusted

from promptly.errors import InvalidRequest
from promptly.settings import Settings


def refuse_foreign_host(environ: dict[str, Any], settings: Settings) -> None:
    """Raise InvalidRequest for an untrusted host name; `/health` answers to any.

    A request without `Host`, as in HTTP/1.0, names no foreign one.
    """
    host = environ.get("HTTP_HOST")
    if host is None or environ["PATH_INFO"] in {"/health", "/health/ready"}:
        return
    if not is_trusted(host, settings.trusted_hosts, settings.base_url):
        raise InvalidRequest("This host name is not served here.")


@lru_cache(maxsize=256)
def is_trusted(host: str, trusted_hosts: tuple[str, ...], base_url: str) -> bool:
    """Return whether the value of a `Host` header is trusted; its port does not matter.

    Without `trusted_hosts`, these are the host of `base_url`, localhost and every IP address.
    """
    host = host.lower()
    if trusted_hosts:
        return host_is_trusted(host, [name.lower() for name in trusted_hosts])
    own = urlsplit(base_url).hostname or ""
    return host_is_trusted(host, [own, "localhost"]) or _is_address(host)


def _is_address(host: str) -> bool:
    # Without a list, this checks the syntax only.
    if not host_is_trusted(host):
        return False
    name = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def stay_on_host(problem: Exception) -> None:
    """Take scheme and host from a redirect to the route's own spelling of a path.

    Werkzeug adds those that reached this process, perhaps a proxy's.
    """
    if isinstance(problem, RequestRedirect):
        target = urlsplit(problem.new_url)
        # A second slash would start a host name.
        path = f"/{target.path.lstrip('/')}"
        problem.new_url = urlunsplit(("", "", path, target.query, ""))
