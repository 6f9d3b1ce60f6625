"""The security headers of every page, in one place."""

from urllib.parse import urlsplit

from flask import Response, current_app, request

from promptly.settings import Settings

# No inline script or style anywhere, so nothing that is injected can run or dress up as ours.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
STRIPE_CHECKOUT = "https://checkout.stripe.com"
ONE_YEAR_SECONDS = 365 * 24 * 3600


def is_https() -> bool:
    """Whether the client came by https, told by exactly the trusted proxies if there are any."""
    settings: Settings = current_app.extensions["settings"]
    hops = settings.trusted_proxy_hops
    told = [part.strip() for part in request.headers.get("X-Forwarded-Proto", "").split(",")]
    if hops and told[0]:
        # Most proxies overwrite this header instead of adding to it.
        return (told[-hops] if len(told) >= hops else told[0]).lower() == "https"
    return request.is_secure


def content_security_policy() -> str:
    """The policy of every page; forms lead to ourselves, and on to where one pays.

    A browser applies `form-action` to the redirect that answers a form, too.
    """
    settings: Settings = current_app.extensions["settings"]
    targets = ["'self'"]
    if settings.takes_stripe:
        targets.append(_origin(settings.stripe_api_base) or STRIPE_CHECKOUT)
    if settings.takes_btcpay:
        targets.append(_origin(settings.btcpay_url))
    return f"{CONTENT_SECURITY_POLICY}; form-action {' '.join(targets)}"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def add_page_headers(response: Response) -> Response:
    """Give a page its policy; a header that the view has set stays as it is."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", content_security_policy())
    headers.setdefault("X-Content-Type-Options", "nosniff")
    # Not always no-referrer: the protection of forms over https compares the referrer. But what a
    # page loads that was asked for with a key must not carry that on; it has no forms to protect.
    policy = "no-referrer" if "key" in request.args else "same-origin"
    headers.setdefault("Referrer-Policy", policy)
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    if is_https():
        headers.setdefault("Strict-Transport-Security", f"max-age={ONE_YEAR_SECONDS}")
    return response
