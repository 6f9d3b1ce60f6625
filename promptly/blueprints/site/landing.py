"""The landing page, with registration and sign-in."""

from flask import Response, make_response, render_template

from promptly.gateway import current_gateway
from promptly.gateway.chat_request import ChatRequest
from promptly.prices import DEFAULT, Price
from promptly.services.payments import offers
from promptly.services.payments.providers import registry
from promptly.settings import current_settings

WAYS = {"stripe": "by card", "btcpay": "with Bitcoin"}


def index() -> Response:
    return page()


def page(*, key_error: str | None = None, status: int = 200) -> Response:
    """Render the landing page, with the error of a key that was entered."""
    settings = current_settings()
    models = live_models()
    response = make_response(
        render_template(
            "index.html",
            key_error=key_error,
            models=models,
            prices=model_prices(models),
            model=example_model(),
            packs=settings.packs,
            currency=settings.packs_currency,
            custom_offer=offers.custom_offer(settings),
            ways=[WAYS[name] for name in registry.offered(settings)],
            base_url=settings.base_url,
            trial_tokens=settings.trial_tokens,
            trial_expiry_days=settings.trial_expiry_days,
            trials_limited=settings.limits_trials,
        )
    )
    response.status_code = status
    return response


def example_model() -> str:
    """Return the name for snippets: the default model's, or one that will mean it."""
    gateway = current_gateway()
    gateway.pool.seen()
    return gateway.model_names.default() or "default"


def model_prices(models: list[str]) -> list[tuple[str, Price]]:
    """Return the price of each model; of none if all of them charge what is counted."""
    price_list = current_gateway().price_list
    found = [(model, price_list.shown(model)) for model in models]
    return found if any(price != DEFAULT for _, price in found) else []


def live_models() -> list[str]:
    """Return the names of the models that this process last saw available, sorted."""
    seen = current_gateway().pool.seen()
    return sorted({upstream.model for upstream in seen if upstream.serves(ChatRequest.path)})
