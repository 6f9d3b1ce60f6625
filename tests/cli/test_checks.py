"""The doctor's checks of the panel's configuration, trials, the HTTP parser and model servers."""

from datetime import timedelta
from importlib.machinery import ModuleSpec
from ipaddress import ip_network

import pytest
from sqlalchemy.orm import Session

from promptly.cli import backup_checks, checks
from promptly.clock import utcnow
from promptly.models import SweepState
from promptly.prices import parse_prices
from promptly.secret import Secret
from promptly.services.accounts import accounts
from promptly.settings import Settings
from sandbox.ports import free_port
from tests.support import factories
from tests.support.servers import make_settings

KEY = Secret("a-key-of-some-length-0123456789")
EVERYBODY = (ip_network("10.0.0.0/8"), ip_network("::/0"))


@pytest.mark.parametrize(
    ("settings", "levels"),
    [
        (make_settings(admin_key=KEY), []),
        (make_settings(admin_key=KEY, admin_allowed_cidrs=EVERYBODY), ["warning"]),
        (make_settings(admin_allowed_cidrs=EVERYBODY), []),
        (make_settings(admin_key=KEY, key_pepper=KEY), ["error"]),
    ],
)
def test_administration(settings: Settings, levels: list[str]) -> None:
    assert [finding.level for finding in checks.administration(settings)] == levels


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "neither ADMIN_KEY nor ADMIN_KEYS is set"),
        ("short", "ADMIN_KEY is easy to guess"),
        ("a" * 40, "ADMIN_KEY is easy to guess"),
        (KEY.reveal(), ""),
    ],
)
def test_the_key_itself(key: str, words: str) -> None:
    found = " ".join(
        finding.message for finding in checks.secrets(make_settings(admin_key=Secret(key)))
    )
    assert words in found and (words != "" or "ADMIN_KEY" not in found)
    assert not key or key not in found


def test_backups(session: Session) -> None:
    def found() -> list[str]:
        return [level for level, _ in backup_checks.findings()]

    assert found() == ["warning"]
    made = SweepState(name="backup", last_run_at=utcnow() - timedelta(hours=25))
    session.add(made)
    session.flush()
    assert found() == ["ok"]
    made.last_run_at -= timedelta(hours=2)
    session.flush()
    assert found() == ["warning"]


def test_the_key_for_metrics() -> None:
    def levels(key: str) -> list[str]:
        settings = make_settings(admin_key=KEY, metrics_key=Secret(key))
        return [finding.level for finding in checks.secrets(settings)]

    assert levels("") == levels("a-key-for-prometheus-0123456789-xy") == []
    # Easy to guess, or one that opens more.
    assert levels("a" * 40) == levels(make_settings().key_pepper.reveal()) == ["error"]


@pytest.mark.parametrize(("is_there", "level"), [(True, "ok"), (False, "warning")])
def test_the_parser_of_requests(
    is_there: bool, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ModuleSpec("gunicorn_h1c", None) if is_there else None
    monkeypatch.setattr(checks, "find_spec", lambda name: found)
    [finding] = checks.http_parser(make_settings())
    assert finding.level == level
    assert ("requirements-fast.txt" in finding.message) is not is_there


def test_the_variable_of_a_model_server_that_does_not_respond() -> None:
    chat, embeddings = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    settings = make_settings(llama_base_url=(chat,), llama_embeddings_base_url=(embeddings,))
    first, second = checks.upstreams(settings)
    assert first.message.endswith("check LLAMA_BASE_URL")
    assert second.message.endswith("check LLAMA_EMBEDDINGS_BASE_URL")


def test_the_older_name_of_the_drain() -> None:
    assert list(checks.drain(make_settings())) == []
    [finding] = checks.drain(make_settings(graceful_timeout_seconds=60, drain_seconds=50))
    assert finding.level == "warning" and "set DRAIN_SECONDS=50" in finding.message


@pytest.mark.parametrize(
    ("base_url", "reported"),
    [
        ("http://llm.example.com", True),
        ("https://llm.example.com", False),
        ("http://127.0.0.1:8503", False),
    ],
)
def test_a_challenge_that_browsers_cannot_solve(base_url: str, reported: bool) -> None:
    settings = make_settings(base_url=base_url, registration_challenge="altcha")
    found = [item for item in checks.public_site(settings) if "CHALLENGE" in item.message]
    assert [item.level for item in found] == ["error"] * reported


@pytest.mark.parametrize(
    ("trusted", "reported"),
    [((), False), (("API.Example.com",), False), ((".example.com",), False), (("b.test",), True)],
)
def test_trusted_hosts_without_the_sites_own(trusted: tuple[str, ...], reported: bool) -> None:
    settings = make_settings(base_url="https://api.example.com", trusted_hosts=trusted)
    found = [item for item in checks.public_site(settings) if "TRUSTED_HOSTS" in item.message]
    assert [item.level for item in found] == ["error"] * reported


def test_trials_that_are_used_up(session: Session) -> None:
    settings = make_settings(trials_per_day=2, trials_per_domain_per_day=1)
    factories.user("early@example.org")
    accounts.create("ada@example.com", settings)
    due, today = checks.trial_abuse(settings)
    assert due.level == "warning" and "yet: 1;" in due.message and "backfill" in due.message
    assert today.level == "warning" and "1 granted today of 2" in today.message
    assert "TRIALS_PER_DOMAIN_PER_DAY: 1." in today.message
    [today] = list(checks.trial_abuse(make_settings()))[1:]
    assert today.level == "ok"


def test_prices_in_force_that_are_not_those_of_the_setting(session: Session) -> None:
    assert [finding.level for finding in checks.prices(make_settings())] == ["ok"]
    wanted = make_settings(prices=parse_prices("*:100:25:100,big:1:2:3"))
    [finding] = checks.prices(wanted)
    assert finding.level == "warning"
    assert "* costs 100:100:100, PRICES has 100:25:100" in finding.message
    assert "big costs what * does, PRICES has 1:2:3" in finding.message
