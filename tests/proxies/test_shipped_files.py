"""The limits of deploy/nginx fit the gateway's, and the documents quote its files."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from promptly.settings import Settings
from tests.docs.snippets import all_snippets
from tests.proxies.shipped import COMMON, FILES, SITE
from tests.support.servers import make_settings

SECONDS = {"s": 1, "m": 60, "d": 86400}


def values(name: str, directive: str) -> set[str]:
    """Return the values of a directive in a file, comments left aside."""
    text = (FILES / name).read_text()
    return set(re.findall(rf"^ *{directive} (.+);$", text, re.MULTILINE))


def seconds(name: str, directive: str) -> int:
    """Return the only value of a directive in a file, which must be one of time."""
    [value] = values(name, directive)
    return int(value[:-1]) * SECONDS[value[-1]]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return make_settings()


def test_the_longest_request_may_end(settings: Settings) -> None:
    """Its last error is to come from the gateway, which then has settled it."""
    slack = settings.body_timeout_seconds
    assert seconds(COMMON, "proxy_read_timeout") >= settings.request_timeout_seconds + slack


def test_the_gateway_notices_slow_clients_first(settings: Settings) -> None:
    assert seconds(COMMON, "client_body_timeout") > settings.body_timeout_seconds
    assert seconds(COMMON, "send_timeout") > settings.upstream_idle_timeout_seconds
    [limit] = values(COMMON, "client_max_body_size")
    assert int(limit.removesuffix("m")) * 1024 * 1024 > settings.max_body_bytes


def test_nginx_closes_idle_connections_first(project: Path) -> None:
    found = re.search(r"^keepalive = (\d+)$", (project / "gunicorn.conf.py").read_text(), re.M)
    assert found is not None
    assert seconds(SITE, "keepalive_timeout") < int(found[1])


def test_comments_name_the_defaults(settings: Settings) -> None:
    text = (FILES / COMMON).read_text()
    named = dict(re.findall(r"([A-Z_]+(?:SECONDS|BYTES)) \((\d+)", text))
    assert set(named) == {
        "MAX_BODY_BYTES",
        "BODY_TIMEOUT_SECONDS",
        "UPSTREAM_IDLE_TIMEOUT_SECONDS",
        "REQUEST_TIMEOUT_SECONDS",
    }
    for name, value in named.items():
        unit = 1024 * 1024 if name == "MAX_BODY_BYTES" else 1
        assert int(value) * unit == getattr(settings, name.lower()), name


def test_nothing_that_has_a_query_is_logged() -> None:
    for name in (SITE, COMMON):
        code = re.sub(r"^ *#.*", "", (FILES / name).read_text(), flags=re.MULTILINE)
        [*formats] = re.findall(r"log_format .+?;", code, re.DOTALL)
        for text in formats:
            assert not re.search(r"\$(request|request_uri|args|query_string|http_\w+)\b", text)
        assert values(name, "error_log") <= {"/var/log/nginx/promptly-errors.log emerg"}
    assert values(COMMON, "error_log") and values(COMMON, "access_log")


def test_prompts_and_answers_are_not_written_to_disk() -> None:
    for directive in ("proxy_buffering", "proxy_request_buffering"):
        assert [values(name, directive) for name in (SITE, COMMON)] == [set(), {"off"}]


def test_documents_quote_the_files() -> None:
    quoted = [snippet for snippet in all_snippets() if snippet.language == "nginx"]
    assert quoted
    texts = [(FILES / name).read_text() for name in (SITE, COMMON)]
    for snippet in quoted:
        assert any(snippet.text in text for text in texts), snippet


def test_staging_can_be_removed_as_documented(tmp_path: Path) -> None:
    [command] = [snippet.text for snippet in all_snippets() if "promptly_staging" in snippet.text]
    copy = tmp_path / SITE
    shutil.copy(FILES / SITE, copy)
    subprocess.run(["bash", "-ec", command.replace("/etc/nginx/conf.d", str(tmp_path))], check=True)
    code = re.sub(r"^ *#.*", "", copy.read_text(), flags=re.MULTILINE)
    assert len(re.findall(r"^server {$", code, re.MULTILINE)) == 3
    assert code.count("{") == code.count("}")
    assert "8505" not in code and "staging" not in code
