"""Authentication, idempotency keys and faults of the API, through Stripe's own SDK."""

import threading
from typing import Any

import pytest
import requests
from stripe import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    IdempotencyError,
    InvalidRequestError,
    RateLimitError,
)

from sandbox.process import SandboxError, wait_until
from sandbox.stripe import SimulatedStripe
from tests.sandbox.stripe.conftest import NewSession, parameters, sdk

CREATE = "POST /v1/checkout/sessions"


def sessions_of(stripe: SimulatedStripe) -> list[str]:
    return [item["id"] for item in stripe.act("objects", kind="checkout.session")]


def test_only_the_accounts_key_opens_it(stripe: SimulatedStripe) -> None:
    with pytest.raises(AuthenticationError, match="Invalid API Key"):
        sdk(stripe, key="sk_test_other").checkout.sessions.list()
    answer = requests.get(f"{stripe.url}/v1/checkout/sessions", timeout=10)
    assert (answer.status_code, "error" in answer.json()) == (401, True)
    assert answer.headers["Request-Id"].startswith("req_")
    assert stripe.requests()[0]["headers"]["authorization"] == "Bearer sk_test…ther"


def test_unknown_ids_and_addresses(client: Any, stripe: SimulatedStripe) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.checkout.sessions.retrieve("cs_test_none")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    for lookup in (client.charges, client.refunds, client.disputes, client.events):
        with pytest.raises(InvalidRequestError, match="No such"):
            lookup.retrieve("none")
    with pytest.raises(InvalidRequestError, match="Unrecognized"):
        client.customers.list()
    assert stripe.requests()[-1]["status"] == 404


def test_an_idempotency_key_gives_the_first_answer_again(
    stripe: SimulatedStripe, client: Any
) -> None:
    create = client.checkout.sessions.create
    first = create(parameters(), {"idempotency_key": "order-1:1"})
    again = create(parameters(), {"idempotency_key": "order-1:1"})
    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(IdempotencyError):
        create(parameters(600), {"idempotency_key": "order-1:1"})
    assert create(parameters(), {"idempotency_key": "order-1:2"}).id != first.id
    assert len(sessions_of(stripe)) == 2
    assert [item["replayed"] for item in stripe.requests(CREATE)] == [False, True, False, False]


def test_refusals_by_the_checks_are_not_kept_those_by_the_business_are(
    stripe: SimulatedStripe, client: Any
) -> None:
    create = client.checkout.sessions.create
    with pytest.raises(InvalidRequestError):
        create(parameters(success_url="shop"), {"idempotency_key": "a"})
    create(parameters(), {"idempotency_key": "a"})
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="at least"):
            create(parameters(10), {"idempotency_key": "b"})
    assert [item["replayed"] for item in stripe.requests(CREATE)] == [False, False, False, True]


def test_a_lost_answer_makes_no_second_session(stripe: SimulatedStripe, client: Any) -> None:
    stripe.set_fault(CREATE, when="after", cut=True, times=1)
    session = client.checkout.sessions.create(parameters())  # the SDK retries by itself
    assert sessions_of(stripe) == [session.id]
    assert [item["status"] for item in stripe.requests(CREATE)] == [0, 200]


def test_a_failure_that_is_kept_is_repeated_under_its_key(
    stripe: SimulatedStripe, client: Any
) -> None:
    stripe.set_fault(CREATE, status=500, kept=True, times=1)
    for _ in range(2):
        with pytest.raises(APIError, match="simulated failure"):
            client.checkout.sessions.create(parameters(), {"idempotency_key": "order-1:1"})
    # The response header forbids a retry, so the SDK makes none.
    assert [item["status"] for item in stripe.requests(CREATE)] == [500, 500]
    client.checkout.sessions.create(parameters(), {"idempotency_key": "order-1:2"})
    assert len(sessions_of(stripe)) == 1


def test_a_failure_before_the_work_goes_away(stripe: SimulatedStripe, client: Any) -> None:
    stripe.set_fault(CREATE, status=503, times=1)
    client.checkout.sessions.create(parameters())
    assert [item["status"] for item in stripe.requests(CREATE)] == [503, 200]
    stripe.set_fault("GET *", status=429)
    with pytest.raises(RateLimitError):
        client.checkout.sessions.list()
    stripe.clear_faults()
    assert len(client.checkout.sessions.list().data) == 1


def test_a_slow_call_is_completed_after_its_client_left(stripe: SimulatedStripe) -> None:
    stripe.set_fault(CREATE, seconds=1.5, times=1)
    impatient = sdk(stripe, timeout=0.3, retries=0)
    with pytest.raises(APIConnectionError):
        impatient.checkout.sessions.create(parameters(), {"idempotency_key": "a"})
    # Other calls are served concurrently.
    assert sdk(stripe).checkout.sessions.list().data == []
    wait_until(lambda: len(sessions_of(stripe)) == 1, 10, "the late session")


def test_two_calls_with_one_key_at_the_same_time(stripe: SimulatedStripe) -> None:
    stripe.set_fault(CREATE, when="after", seconds=0.3)
    found: list[str] = []

    def create() -> None:
        patient = sdk(stripe, retries=8)
        found.append(patient.checkout.sessions.create(parameters(), {"idempotency_key": "a"}).id)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == sessions_of(stripe) * 4


def test_the_state_is_kept_over_a_restart(tmp_path: Any) -> None:
    stripe = SimulatedStripe(tmp_path / "stripe", persistent=True).start()
    try:
        session = sdk(stripe).checkout.sessions.create(parameters())
        stripe.pay(session.id)
        before, address = stripe.truth(), stripe.url
        stripe.stop()
        stripe = SimulatedStripe(
            tmp_path / "stripe", secret_key=stripe.secret_key, persistent=True
        ).start()
        assert (stripe.truth(), stripe.url) == (before, address)
        sessions = sdk(stripe).checkout.sessions
        assert sessions.retrieve(session.id).payment_status == "paid"
        # A port in use by another process is not taken.
        other = SimulatedStripe(tmp_path / "other", persistent=True)
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "port").write_text(f"{stripe.port}\n")
        try:
            assert other.start().port != stripe.port
        finally:
            other.stop()
    finally:
        stripe.stop()
    assert (tmp_path / "stripe" / "state.json").stat().st_mode & 0o077 == 0


def test_an_account_in_live_mode(tmp_path: Any) -> None:
    stripe = SimulatedStripe(tmp_path / "live", secret_key="sk_live_simulated").start()
    try:
        session = sdk(stripe).checkout.sessions.create(parameters())
        assert session.id.startswith("cs_live_") and session.livemode is True
        stripe.pay(session.id)
        assert {event["livemode"] for event in stripe.events()} == {True}
    finally:
        stripe.stop()


def test_controls_refuse_what_they_do_not_know(
    stripe: SimulatedStripe, new_session: NewSession
) -> None:
    with pytest.raises(SandboxError, match="stauts"):
        stripe.set_fault(stauts=500)
    with pytest.raises(SandboxError, match="action must be"):
        stripe.set_rule("lose")
    with pytest.raises(SandboxError, match="colour"):
        stripe.alter(new_session().id, colour="red")
    with pytest.raises(SandboxError, match="No such checkout session"):
        stripe.pay("cs_test_none")
