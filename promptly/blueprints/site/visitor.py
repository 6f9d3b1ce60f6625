"""The browser and the network of a request, as the list of sessions shows them."""

import ipaddress
import re

from flask import request

from promptly.proxies import client_address

UNKNOWN_NETWORK = "unknown"

# First match wins: most browsers also name those that they are compatible with.
_BROWSERS = (
    (r"Edg(e|A|iOS)?/", "Edge"),
    (r"OPR/|Opera", "Opera"),
    (r"SamsungBrowser/", "Samsung Internet"),
    (r"Firefox/|FxiOS/", "Firefox"),
    (r"Chrome/|CriOS/|Chromium/", "Chrome"),
    (r"Safari/", "Safari"),
    (r"curl/", "curl"),
    (r"python|aiohttp|httpx", "Python"),
)
_SYSTEMS = (
    (r"Android", "Android"),
    (r"iPhone|iPod", "iPhone"),
    (r"iPad", "iPad"),
    (r"Windows", "Windows"),
    (r"CrOS", "ChromeOS"),
    (r"Macintosh|Mac OS X", "macOS"),
    (r"Linux|X11", "Linux"),
)


def browser() -> str:
    """Return the family of the browser and its system, such as "Firefox on Linux"."""
    agent = request.headers.get("User-Agent", "")
    name, system = _first(_BROWSERS, agent), _first(_SYSTEMS, agent)
    if name is None and system is None:
        return "Unknown browser"
    return f"{name or 'Browser'} on {system}" if system else f"{name}"


def network() -> str:
    """Return the client's network: the /24 of an IPv4 address, the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(client_address())
    except ValueError:
        return UNKNOWN_NETWORK
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(address), 64), strict=False))
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((int(address), 24), strict=False))


def _first(patterns: tuple[tuple[str, str], ...], agent: str) -> str | None:
    return next((name for pattern, name in patterns if re.search(pattern, agent)), None)
