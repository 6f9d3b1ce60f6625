"""Whom a request comes from, behind exactly the configured number of proxies."""

import ipaddress

from flask import current_app, request

from promptly.settings import Settings


def forwarded_address(peer: str, forwarded_for: str | None, hops: int) -> str | None:
    """The client's address after `hops` trusted proxies, or None with too few addresses.

    Each trusted proxy appends the address it saw, so the client is the entry `hops` from the
    right; whatever stands before it was written by the client and means nothing.
    """
    if hops == 0:
        return peer
    addresses = forwarded_addresses(forwarded_for)
    return addresses[-hops] if len(addresses) >= hops else None


def forwarded_addresses(forwarded_for: str | None) -> list[str]:
    """What the header X-Forwarded-For lists."""
    return [item.strip() for item in (forwarded_for or "").split(",") if item.strip()]


def client_network() -> str:
    """The client's IPv4 address or IPv6 /64: whoever has one such address has all of them."""
    text = client_address()
    if ":" not in text:
        return text
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return text
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def client_address() -> str:
    """The address that limits count; the peer's own where proxies told too little."""
    settings: Settings = current_app.extensions["settings"]
    peer = request.environ.get("REMOTE_ADDR") or "local"
    forwarded = request.environ.get("HTTP_X_FORWARDED_FOR")
    return forwarded_address(peer, forwarded, settings.trusted_proxy_hops) or peer
