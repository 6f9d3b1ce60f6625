"""The doctor on the operator's and the customers' addresses."""

import pytest
from flask import Flask

from promptly.cli import checks
from promptly.models.states import MailState
from tests.support import factories
from tests.support.servers import make_settings

OPERATOR = {"operator_email": "ops@example.com", "smtp_host": "mail.example.com"}
PUBLIC = {"base_url": "https://llm.example.com"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ["warning OPERATOR_EMAIL is not set"]),
        (OPERATOR | {"smtp_host": ""}, ["warning OPERATOR_EMAIL gets nothing without SMTP_HOST"]),
        (OPERATOR, ["ok alerts go to ops@example.com"]),
        (
            OPERATOR | {"support_email": "help@example.com", "database_size_warn_bytes": 0},
            ["ok customers see help@", "ok alerts go to", "warning DATABASE_SIZE_WARN_BYTES is 0"],
        ),
        (
            OPERATOR | PUBLIC | {"trusted_proxy_hops": 1},
            ["warning SUPPORT_EMAIL is not set", "ok alerts", "warning links in alerts lead to"],
        ),
        (
            OPERATOR | PUBLIC | {"trusted_proxy_hops": 1, "admin_url": "http://10.0.0.1/admin"},
            ["warning SUPPORT_EMAIL is not set", "ok alerts"],
        ),
    ],
)
def test_addresses(app_context: Flask, values: dict[str, object], said: list[str]) -> None:
    found = checks.notifications(make_settings(**values))
    lines = [f"{finding.level} {finding.message}" for finding in found]
    assert len(lines) == len(said)
    for line, beginning in zip(lines, said, strict=True):
        assert line.startswith(beginning)


def test_mail_that_does_not_reach_the_operator(app_context: Flask) -> None:
    factories.mail("new_key").state = MailState.FAILED
    [finding] = checks.notifications(make_settings(**OPERATOR))
    assert finding.level == "ok"
    factories.mail("operator_digest").state = MailState.FAILED
    [finding] = checks.notifications(make_settings(**OPERATOR))
    assert finding.level == "error" and "1 email to OPERATOR_EMAIL failed" in finding.message
