"""The payment checks of `flask doctor`; each finding is a pair (level, message)."""

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from promptly import labels, money
from promptly.clients.provider_errors import ProviderProblem
from promptly.clock import utcnow
from promptly.services.payments import cases, reconciliation, webhook_inbox
from promptly.services.payments.providers import registry
from promptly.settings import Settings

ANSWER_WITHIN_SECONDS = 10.0
# Three missed runs: beat or the worker is not running.
RECONCILED_WITHIN = timedelta(minutes=30)
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})

Found = tuple[str, str]


def findings(settings: Settings) -> Iterator[Found]:
    """Yield everything about payments that an operator should know."""
    yield from _incomplete(settings)
    offered = registry.offered(settings)
    if not offered:
        yield "warning", "no payment provider is configured: nothing can be bought"
        return
    yield from _stripe(settings)
    yield from _site(settings)
    for name in offered:
        yield from _accepts_us(name, settings)
    yield from _waiting()


def _incomplete(settings: Settings) -> Iterator[Found]:
    """Report partly configured providers, which are not offered."""
    groups = (
        ("stripe_secret_key", "stripe_webhook_secret"),
        ("btcpay_url", "btcpay_api_key", "btcpay_store_id", "btcpay_webhook_secret"),
    )
    for group in groups:
        missing = [name.upper() for name in group if not getattr(settings, name)]
        if 0 < len(missing) < len(group):
            verb = "is" if len(missing) == 1 else "are"
            yield "error", f"{', '.join(missing)} {verb} not set: this provider is not offered"


def _stripe(settings: Settings) -> Iterator[Found]:
    if not settings.takes_stripe:
        return
    key = settings.stripe_secret_key.reveal()
    if not key.startswith(("sk_", "rk_")):
        yield "error", "STRIPE_SECRET_KEY is not a secret key: those begin with sk_ or rk_"
    elif key.startswith("sk_org_"):
        yield "error", "STRIPE_SECRET_KEY is an organization's key: use one of the account itself"
    if not all(item.reveal().startswith("whsec_") for item in settings.stripe_webhook_secret):
        yield "error", "STRIPE_WEBHOOK_SECRET is not a signing secret: those begin with whsec_"
    public = urlsplit(settings.base_url).hostname not in LOCAL
    if public and not settings.stripe_is_live:
        yield "warning", "STRIPE_SECRET_KEY is a test mode key: no real money is charged"
    minimum = money.MINIMUM_CHARGE[settings.packs_currency]
    sold = {f"pack {pack.name} costs": pack.amount_minor for pack in settings.packs}
    if settings.pack_custom is not None:
        sold["PACK_CUSTOM allows"] = settings.pack_custom.min_minor
    for what, amount_minor in sold.items():
        if amount_minor == minimum:
            yield (
                "warning",
                f"{what} {money.shown(minimum, settings.packs_currency)}, exactly Stripe's minimum,"
                " which applies in your account's settlement currency: the charge may be refused",
            )


def _site(settings: Settings) -> Iterator[Found]:
    urls = []
    if settings.takes_stripe:
        urls.append(settings.stripe_api_base or "https://api.stripe.com")
    if settings.takes_btcpay:
        urls.append(settings.btcpay_url)
    far = any(urlsplit(url).hostname not in LOCAL for url in urls)
    base = urlsplit(settings.base_url)
    if far and base.hostname in LOCAL:
        yield (
            "warning",
            "BASE_URL is local: no webhooks arrive, so payments are credited minutes later",
        )
    if settings.stripe_is_live and base.scheme != "https":
        yield "error", "BASE_URL is not https: Stripe redirects customers back to https only"


def _accepts_us(name: str, settings: Settings) -> Iterator[Found]:
    try:
        with registry.connect(name, settings, ANSWER_WITHIN_SECONDS) as provider:
            advice = provider.check()
    except ProviderProblem as problem:
        yield "error", f"{problem.reason}; check the variables {name.upper()}_…"
        return
    yield "ok", f"{labels.PROVIDERS[name]} accepts our key"
    for item in advice:
        yield "error", item


def _waiting() -> Iterator[Found]:
    try:
        open_cases, parked = cases.count_open(), webhook_inbox.count("parked")
        newest = reconciliation.newest()
    except SQLAlchemyError:
        # PostgreSQL's own check reports it.
        return
    if open_cases:
        need = "1 case needs" if open_cases == 1 else f"{open_cases} cases need"
        yield "warning", f"{need} your decision: 'flask payments attention'"
    if parked:
        are = "1 webhook event is" if parked == 1 else f"{parked} webhook events are"
        yield "warning", f"{are} parked: 'flask webhooks list --state parked'"
    if not newest or newest[0].started_at < utcnow() - RECONCILED_WITHIN:
        yield "warning", "no reconciliation for half an hour: are worker and beat running?"
    elif newest[0].finished_at is not None and not newest[0].complete:
        problems = "; ".join(newest[0].report.get("problems", []))
        yield "warning", f"the last reconciliation was incomplete: {problems}"
