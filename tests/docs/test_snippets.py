"""The documents' snippets work as described."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

from promptly.blueprints.docs.library import EXAMPLE_URL
from tests.conformance import outside
from tests.docs.snippets import PROJECT, Snippet, all_snippets, snippets_of
from tests.plugins.stacks import ADMIN_KEY
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

TIMEOUT_SECONDS = 60

SNIPPETS = all_snippets()


def marks(snippet: Snippet) -> tuple[pytest.MarkDecorator, ...]:
    """Return marks for a snippet's needs beyond Python, which `make clients` installs."""
    if snippet.language == "javascript":
        return (pytest.mark.node,)
    return (pytest.mark.llama_index,) if "llama_index" in snippet.text else ()


RUN = [
    pytest.param(snippet, marks=marks(snippet), id=str(snippet))
    for snippet in SNIPPETS
    if snippet.is_run
]

# An HTTP error must fail the snippet; curl alone would exit with 0.
STRICT_CURL = 'set -euo pipefail\ncurl() { command curl -sS --fail-with-body "$@"; }\n'


def run(snippet: Snippet, gateway: Gateway, account: Account, folder: Path) -> str:
    """Run a snippet against the gateway with the account's key; return its output."""
    text = snippet.text.replace(EXAMPLE_URL, gateway.url)
    # `make run` stores mail here, and the README takes the key from it.
    mail = folder / ".promptly" / "mail" / "1.eml"
    mail.parent.mkdir(parents=True, exist_ok=True)
    mail.write_text(f"Your key: {account.key}\n")
    command = {"bash": bash, "python": python, "javascript": node}[snippet.language](text, folder)
    names = ("PATH", "HOME")
    ended = subprocess.run(
        command,
        cwd=folder,
        env={name: os.environ[name] for name in names if name in os.environ}
        | {"PROMPTLY_KEY": account.key, "ADMIN_KEY": ADMIN_KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{snippet}\n{ended.stdout}"
    return ended.stdout


def bash(text: str, _folder: Path) -> list[str | Path]:
    return ["bash", "-c", STRICT_CURL + text]


def python(text: str, _folder: Path) -> list[str | Path]:
    interpreter = outside.installed(outside.PYTHON) if "llama_index" in text else sys.executable
    return [interpreter, "-c", text]


def node(text: str, folder: Path) -> list[str | Path]:
    (folder / "node_modules").symlink_to(outside.installed(outside.NODE_MODULES))
    (folder / "snippet.mjs").write_text(text)
    return [outside.installed(outside.NODE), "snippet.mjs"]


@pytest.mark.parametrize("snippet", RUN)
def test_it_runs(
    snippet: Snippet, gateway: Gateway, account: Account, books: BooksReader, tmp_path: Path
) -> None:
    assert run(snippet, gateway, account, tmp_path).strip()
    for event in books.events(account):
        assert event["outcome"] == "completed"


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_its_data_can_be_read(snippet: Snippet) -> None:
    snippet.check()


def test_every_client_has_something_to_paste() -> None:
    pages = {path.relative_to(PROJECT).as_posix() for path in PROJECT.glob("docs/clients/*.md")}
    with_snippets = {snippet.document for snippet in SNIPPETS}
    by_hand = {"docs/clients/n8n.md"}  # only settings forms
    assert pages - with_snippets == by_hand


@pytest.mark.parametrize(
    "language",
    ["python", pytest.param("javascript", marks=pytest.mark.node), "curl", "langchain"],
)
def test_snippets_of_the_landing_page_run(
    language: str, gateway: Gateway, account: Account, books: BooksReader, tmp_path: Path
) -> None:
    page = urllib3.request("GET", gateway.url).data.decode()
    found = re.search(f'<pre[^>]* id="code-{language}"><code>(.*?)</code></pre>', page, re.DOTALL)
    assert found is not None
    text = html.unescape(found[1]).replace("sk-…", account.key)
    # The page shows this installation's BASE_URL: here the default, not the listening address.
    text = text.replace(EXAMPLE_URL, gateway.url)
    kind = {"curl": "bash", "langchain": "python"}.get(language, language)
    assert run(Snippet("/", 1, kind, True, text), gateway, account, tmp_path).strip()
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "completed"


@pytest.mark.parametrize("path", ["/AGENTS.md", "/llms.txt"])
def test_snippets_for_agents_run(
    path: str, gateway: Gateway, account: Account, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    text = urllib3.request("GET", gateway.url + path).data.decode()
    found = [snippet for snippet in snippets_of(path, text) if snippet.language]
    for snippet in found:
        with subtests.test(msg=str(snippet)):
            snippet.check()
            if snippet.is_run:
                assert run(snippet, gateway, account, tmp_path).strip()
