"""What `flask doctor` looks at where payments are concerned: (level, message) each."""

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from promptly import money
from promptly.clients.provider_errors import ProviderProblem
from promptly.clock import utcnow
from promptly.services.payments import cases, reconciliation, webhook_inbox
from promptly.services.payments.providers import registry
from promptly.settings import Settings

ANSWER_WITHIN_SECONDS = 10.0
# Three runs missed: beat or the worker does not run.
RECONCILED_WITHIN = timedelta(minutes=30)
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})

Found = tuple[str, str]


def findings(settings: Settings) -> Iterator[Found]:
    """Everything about payments that an operator should know."""
    yield from _whole(settings)
    offered = registry.offered(settings)
    if not offered:
        yield "warning", "no way to pay is configured: nothing can be bought"
        return
    yield from _stripe(settings)
    yield from _site(settings)
    for name in offered:
        yield _asked(name, settings)
    yield from _waiting()


def _whole(settings: Settings) -> Iterator[Found]:
    """A provider that is configured in part is not offered."""
    groups = (
        ("stripe_secret_key", "stripe_webhook_secret"),
        ("btcpay_url", "btcpay_api_key", "btcpay_store_id", "btcpay_webhook_secret"),
    )
    for group in groups:
        missing = [name.upper() for name in group if not getattr(settings, name)]
        if 0 < len(missing) < len(group):
            verb = "is" if len(missing) == 1 else "are"
            yield "error", f"{', '.join(missing)} {verb} not set: this way to pay is not offered"


def _stripe(settings: Settings) -> Iterator[Found]:
    if not settings.takes_stripe:
        return
    if not settings.stripe_secret_key.reveal().startswith(("sk_", "rk_")):
        yield "error", "STRIPE_SECRET_KEY is no secret key: those begin with sk_ or rk_"
    if not all(item.reveal().startswith("whsec_") for item in settings.stripe_webhook_secret):
        yield "error", "STRIPE_WEBHOOK_SECRET is no signing secret: those begin with whsec_"
    public = urlsplit(settings.base_url).hostname not in LOCAL
    if public and not settings.stripe_is_live:
        yield "warning", "STRIPE_SECRET_KEY is for test mode: no money is taken"
    minimum = money.MINIMUM_CHARGE[settings.packs_currency]
    for pack in settings.packs:
        if pack.amount_minor == minimum:
            price = pack.price(settings.packs_currency)
            yield (
                "warning",
                f"pack {pack.name} costs {price}, just Stripe's minimum: it is judged in the "
                "currency your account settles in, and may be refused",
            )


def _site(settings: Settings) -> Iterator[Found]:
    asked = []
    if settings.takes_stripe:
        asked.append(settings.stripe_api_base or "https://api.stripe.com")
    if settings.takes_btcpay:
        asked.append(settings.btcpay_url)
    far = any(urlsplit(url).hostname not in LOCAL for url in asked)
    base = urlsplit(settings.base_url)
    if far and base.hostname in LOCAL:
        yield (
            "warning",
            "BASE_URL is local: no webhook arrives, payments are credited minutes later",
        )
    if settings.stripe_is_live and base.scheme != "https":
        yield "error", "BASE_URL is not https: Stripe leads customers back to https only"


def _asked(name: str, settings: Settings) -> Found:
    title = {"stripe": "Stripe", "btcpay": "BTCPay"}[name]
    try:
        with registry.connect(name, settings, ANSWER_WITHIN_SECONDS) as provider:
            provider.check()
    except ProviderProblem as problem:
        prefix = {"stripe": "STRIPE_", "btcpay": "BTCPAY_"}[name]
        return "error", f"{problem.reason}; look at the variables {prefix}…"
    return "ok", f"{title} lets us in"


def _waiting() -> Iterator[Found]:
    try:
        open_cases, parked = cases.count_open(), webhook_inbox.count("parked")
        newest = reconciliation.newest()
    except SQLAlchemyError:
        # PostgreSQL's own check tells of it.
        return
    if open_cases:
        yield "warning", f"{open_cases} cases wait for you: 'flask payments attention'"
    if parked:
        yield "warning", f"{parked} webhook events are parked: 'flask webhooks list --state parked'"
    if not newest or newest[0].started_at < utcnow() - RECONCILED_WITHIN:
        yield "warning", "nothing was reconciled for half an hour: do worker and beat run?"
    elif newest[0].finished_at is not None and not newest[0].complete:
        problems = "; ".join(newest[0].report.get("problems", []))
        yield "warning", f"the newest reconciliation was incomplete: {problems}"
