"""The configured providers, and connections to them."""

from collections.abc import Iterator
from contextlib import contextmanager

from promptly.services.payments.providers.base import Provider
from promptly.settings import Settings

# Time limits for all calls of one unit of work together: while a customer waits, for one order in
# the background, and for a refund that an operator waits for.
CUSTOMER_WAITS_SECONDS = 10.0
BACKGROUND_SECONDS = 20.0
OPERATOR_WAITS_SECONDS = 30.0

# Providers that may be asked again for the page of an attempt that was not answered: they return
# the page that exists. BTCPay has no idempotency keys.
REPEAT_SAFELY = frozenset({"stripe"})


def offered(settings: Settings) -> tuple[str, ...]:
    """Return the configured providers, in the order in which they are shown."""
    names = (("stripe", settings.takes_stripe), ("btcpay", settings.takes_btcpay))
    return tuple(name for name, configured in names if configured)


@contextmanager
def connect(
    name: str, settings: Settings, timeout_seconds: float = BACKGROUND_SECONDS
) -> Iterator[Provider]:
    """Connect to a provider for one unit of work; the timeout covers all its calls together."""
    # Imported here: Stripe's SDK takes half a second to load, and most processes never need it.
    from promptly.services.payments.providers.btcpay import BTCPayProvider
    from promptly.services.payments.providers.stripe import StripeProvider

    provider: Provider
    if name == "stripe":
        provider = StripeProvider(settings, timeout_seconds)
    else:
        provider = BTCPayProvider(settings, timeout_seconds)
    try:
        yield provider
    finally:
        provider.close()
