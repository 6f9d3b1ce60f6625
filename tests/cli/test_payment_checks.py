"""The doctor asks both providers what our keys may do, and BTCPay for its version."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from promptly.cli import payment_checks
from promptly.packs import CustomAmounts
from promptly.secret import Secret
from promptly.services.payments.providers.btcpay_server import advice_on_key, advice_on_version
from promptly.settings import Settings
from sandbox.btcpay import SimulatedBTCPay, store
from sandbox.stripe import SimulatedStripe, permissions
from tests.support.servers import make_settings
from tests.support.shop import configuration


@pytest.fixture(scope="module")
def restricted() -> Iterator[SimulatedStripe]:
    """An account with a restricted key."""
    server = SimulatedStripe(secret_key="rk_test_0123456789").start()
    yield server
    server.stop()


def advice(name: str, settings: Settings) -> list[tuple[str, str]]:
    return list(payment_checks._accepts_us(name, settings))


def test_a_restricted_key(restricted: SimulatedStripe, btcpay_server: SimulatedBTCPay) -> None:
    settings = make_settings(**configuration(restricted, btcpay_server))
    restricted.set_dashboard(permissions=permissions.DOCUMENTED)
    assert advice("stripe", settings) == [("ok", "Stripe accepts our key")]
    # The attempts to write create nothing.
    assert restricted.truth() == []
    restricted.set_dashboard(permissions=["rak_checkout_session_read", "rak_event_read"])
    _, *found = advice("stripe", settings)
    assert [level for level, _ in found] == ["error"] * 5
    said = " ".join(message for _, message in found)
    for name in ("Checkout Sessions: Write", "Refunds: Write", "Charges", "Disputes", "Intents"):
        assert name in said
    assert "Events" not in said and "rk_test" not in said
    restricted.set_dashboard(permissions=[])
    [(level, message)] = advice("stripe", settings)
    assert level == "error" and "refuses our key (403)" in message


def test_a_secret_key_may_do_everything(
    stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> None:
    stripe_server.reset()
    settings = make_settings(**configuration(stripe_server, btcpay_server))
    assert len(advice("stripe", settings)) == 1
    assert len(stripe_server.requests()) == 1


def test_the_documented_btcpay_key(
    stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> None:
    btcpay_server.reset()
    settings = make_settings(**configuration(stripe_server, btcpay_server))
    assert [level for level, _ in advice("btcpay", settings)] == ["ok"]
    btcpay_server.set_settings(version="2.1.1")
    btcpay_server.set_permissions([store.VIEW_INVOICES, store.CREATE_INVOICE])
    try:
        _, version, key = advice("btcpay", settings)
    finally:
        btcpay_server.reset()
        btcpay_server.set_permissions(store.PERMISSIONS)
    assert version == ("error", "BTCPay 2.1.1 is too old: update it to 2.1.2 or newer")
    assert key[0] == "error" and store.REFUND in key[1] and store.VIEW_INVOICES not in key[1]
    assert btcpay_server.api_key not in key[1]


@pytest.mark.parametrize(
    ("version", "good"),
    [("2.1.2", True), ("2.4.1+abc", True), ("10.0.0", True), ("2.1.1", False), ("1.13.7", False)],
)
def test_versions(version: str, good: bool) -> None:
    assert (advice_on_version({"version": version}) == []) is good
    [said] = advice_on_version({})
    assert "does not tell its version" in said


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        (["unrestricted"], False),
        (["btcpay.store.canmodifystoresettings:shop"], False),
        (["btcpay.store.canmodifyinvoices", "btcpay.store.cancreatepullpayments:shop"], False),
        ([f"{name}:shop" for name in store.PERMISSIONS], False),
        ([f"{name}:other" for name in store.PERMISSIONS], True),
        (["btcpay.store.canmodifyinvoices"], True),
        ([], True),
        (None, True),
    ],
)
def test_permissions_include_others(held: list[str] | None, missing: bool) -> None:
    assert bool(advice_on_key({"permissions": held}, "shop")) is missing


def test_an_organizations_key(
    stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> None:
    settings = make_settings(**configuration(stripe_server, btcpay_server))
    settings = replace(settings, stripe_secret_key=Secret("sk_org_live_0123456789"))
    assert settings.stripe_is_live
    [found] = [message for _, message in payment_checks._stripe(settings) if "organi" in message]
    assert "account itself" in found


def test_amounts_at_stripes_minimum(
    stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> None:
    settings = make_settings(**configuration(stripe_server, btcpay_server))
    found = [message.partition(",")[0] for _, message in payment_checks._stripe(settings)]
    assert found == ["pack starter costs $0.50"]
    settings = replace(settings, pack_custom=CustomAmounts(50, 500))
    found = [message.partition(",")[0] for _, message in payment_checks._stripe(settings)]
    assert found == ["pack starter costs $0.50", "PACK_CUSTOM allows $0.50"]
