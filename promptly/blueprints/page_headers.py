"""Security headers of every page."""

from urllib.parse import urlsplit

from flask import Response, request

from promptly.settings import current_settings

# No page has inline scripts or styles, so injected markup can neither run nor restyle a page.
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
    """Return whether the client used https; behind proxies, what the outermost trusted one says."""
    settings = current_settings()
    hops = settings.trusted_proxy_hops
    schemes = [part.strip() for part in request.headers.get("X-Forwarded-Proto", "").split(",")]
    if hops and schemes[0]:
        # Most proxies overwrite this header instead of appending, so it may be shorter than hops.
        return (schemes[-hops] if len(schemes) >= hops else schemes[0]).lower() == "https"
    return request.is_secure


def content_security_policy() -> str:
    """Return the policy of every page; forms may lead to ourselves and the payment pages.

    Browsers apply `form-action` to the redirect that follows a form, too.
    """
    settings = current_settings()
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
    """Add the security headers to a page; keep those that the view has set."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", content_security_policy())
    headers.setdefault("X-Content-Type-Options", "nosniff")
    # Withheld, the referrer would also take the origin from forms, which is compared with ours. So
    # only pages with a key in their URL withhold it, as their requests would disclose the key.
    policy = "no-referrer" if "key" in request.args else "same-origin"
    headers.setdefault("Referrer-Policy", policy)
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    if is_https():
        headers.setdefault("Strict-Transport-Security", f"max-age={ONE_YEAR_SECONDS}")
    return response
