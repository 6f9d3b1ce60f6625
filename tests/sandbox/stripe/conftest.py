"""Fixtures: one simulated Stripe per module, emptied before each test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from stripe import RequestsClient, StripeClient
from stripe.checkout import Session

from sandbox.stripe import SimulatedStripe

NewSession = Callable[..., Session]

SUCCESS_URL = "http://shop.example/back?session={CHECKOUT_SESSION_ID}"


def sdk(stripe: SimulatedStripe, key: str = "", timeout: float = 10, retries: int = 2) -> Any:
    """Return a client of Stripe's own SDK for the simulator."""
    return StripeClient(
        key or stripe.secret_key,
        base_addresses={"api": stripe.url},
        http_client=RequestsClient(timeout=timeout),
        max_network_retries=retries,
    ).v1


def parameters(amount: int = 200, **others: Any) -> Any:
    """Return the parameters with which a shop creates a session for one pack."""
    price = {"currency": "usd", "product_data": {"name": "standard"}, "unit_amount": amount}
    return {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": 1}],
        "success_url": SUCCESS_URL,
        "cancel_url": "http://shop.example/cancelled",
        "client_reference_id": "order-1",
        "metadata": {"order": "1"},
        "payment_intent_data": {"metadata": {"order": "1"}},
        "customer_email": "ada@example.com",
        **others,
    }


@pytest.fixture(scope="module")
def running_stripe() -> Iterator[SimulatedStripe]:
    server = SimulatedStripe(retry_seconds=(0.02, 0.05, 0.1)).start()
    yield server
    server.stop()


@pytest.fixture
def stripe(running_stripe: SimulatedStripe) -> SimulatedStripe:
    running_stripe.reset()
    running_stripe.set_endpoints([])
    return running_stripe


@pytest.fixture
def client(stripe: SimulatedStripe) -> Any:
    return sdk(stripe)


@pytest.fixture
def new_session(client: Any) -> NewSession:
    """Factory for sessions; parameters are keyword arguments."""
    return lambda amount=200, **others: client.checkout.sessions.create(
        parameters(amount, **others)
    )
