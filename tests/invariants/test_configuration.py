""".env.template lists every variable with the default in the code."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

from promptly.settings import Settings
from tests.support.servers import make_settings

LINE = re.compile(r"^(# )?([A-Z][A-Z_]+)=(.*)$")
COMPOSE_ONLY = {
    "POSTGRES_PASSWORD", "POSTGRES_BIND", "POSTGRES_PORT", "ADMINER_BIND_HOST", "ADMINER_PORT",
    "PROMPTLY_VERSION", "COMPOSE_FILE", "COMPOSE_PROFILES",
    "BTCPAY_BIND_HOST", "BTCPAY_PORT", "BTCPAY_NETWORK", "LIGHTNING_ALIAS",
}  # fmt: skip


def listed(project: Path) -> dict[str, tuple[bool, str]]:
    lines = (project / ".env.template").read_text().splitlines()
    found = [match for line in lines if (match := LINE.match(line))]
    names = [match[2] for match in found]
    assert len(names) == len(set(names)), "a variable is listed twice"
    return {match[2]: (match[1] is None, match[3]) for match in found}


def test_every_variable_is_listed(project: Path) -> None:
    names = {item.name.upper() for item in fields(Settings)}
    assert set(listed(project)) == names | COMPOSE_ONLY


def test_the_shown_defaults_are_the_real_ones(project: Path) -> None:
    template = listed(project)
    for item in fields(Settings):
        must_be_set, shown = template[item.name.upper()]
        if item.default_factory is MISSING:
            assert must_be_set, item.name
        else:
            assert not must_be_set, item.name
            assert item.metadata["parse"](shown) == item.default_factory(), item.name


def test_secrets_do_not_show_themselves() -> None:
    settings = make_settings()
    text = repr(settings) + str(settings)
    assert settings.key_pepper.reveal() not in text
    assert settings.gateway_secret_key.reveal() not in text
