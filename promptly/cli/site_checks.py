"""Check the settings that a site on the internet needs."""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from werkzeug.sansio.utils import host_is_trusted

from promptly.settings import Settings


def findings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield pairs of level and message."""
    base = urlsplit(settings.base_url)
    if base.hostname in {"127.0.0.1", "localhost", "::1"}:
        yield "warning", "BASE_URL is local: mailed links work on this machine only"
        return
    if base.scheme != "https":
        yield "warning", "BASE_URL is not https: keys are sent unencrypted"
    if settings.registration_challenge == "altcha" and base.scheme != "https":
        message = "REGISTRATION_CHALLENGE is altcha, which browsers solve on https pages only"
        yield "error", f"{message}: use https or set it to none"
    if not settings.key_reissue_confirm:
        message = "anyone who knows a customer's email address can replace their key"
        yield "warning", f"{message}: set KEY_REISSUE_CONFIRM=true"
    trusted = [name.lower() for name in settings.trusted_hosts]
    if trusted and not host_is_trusted(base.hostname, trusted):
        message = f"TRUSTED_HOSTS lacks {base.hostname}, the host of BASE_URL: add it"
        yield "error", message
    if settings.trusted_proxy_hops == 0 and base.scheme == "https":
        message = "TRUSTED_PROXY_HOPS is 0, but https needs a proxy: set the number of proxies"
        yield "warning", message
    if os.environ.get("FLASK_DEBUG") not in {None, "", "0"}:
        yield "error", "FLASK_DEBUG is on: unset it"
