"""Consistency of the files around the code: Compose, image, Makefile and documents."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly import errors
from promptly.settings import END_SECONDS, Settings
from tests.support.servers import make_settings

PROJECT = Path(__file__).parent.parent

# Folders that tools and runs leave behind.
_NOT_OURS = re.compile(r"\.(?!ci$).*|__pycache__|results|node_modules")


def project_files() -> Iterator[Path]:
    for folder, folders, names in os.walk(PROJECT):
        folders[:] = [name for name in folders if not _NOT_OURS.fullmatch(name)]
        # In a linked git worktree, `.git` is a file.
        yield from (Path(folder) / name for name in names if name not in {".env", ".git"})


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
    return found


def test_compose_has_the_services_of_production(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"db", "redis", "gateway", "worker", "beat", "adminer"}
    assert services["db"]["image"] == "postgres:16"
    account = services["db"]["environment"]
    assert (account["POSTGRES_USER"], account["POSTGRES_DB"]) == ("gateway", "gateway")
    assert account["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert "depends_on" not in services["db"]


def test_compose_publishes_on_this_machine_only(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service
    }
    assert published == {
        "gateway": ["${GATEWAY_BIND:-127.0.0.1}:${GATEWAY_PORT:-8503}:8503"],
        "adminer": ["${ADMINER_BIND_HOST:-127.0.0.1}:${ADMINER_PORT:-8504}:8080"],
    }


def test_compose_waits_for_draining_streams(compose: dict[str, Any]) -> None:
    grace = compose["services"]["gateway"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > make_settings().drain_seconds + END_SECONDS


def test_the_image_leaves_the_sandbox_out() -> None:
    ignored, *admitted = (PROJECT / ".dockerignore").read_text().splitlines()[1:]
    assert ignored == "*", "everything that is not admitted by name"
    assert not [line for line in admitted if "sandbox" in line]
    assert not list((PROJECT / "promptly").rglob("sandbox"))


def test_contributing_names_files_that_exist() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    questions = re.findall(r"^\| .*\? \| `([^`]+)` \|$", text, re.MULTILINE)
    assert len(questions) == 24
    assert [path for path in questions if not (PROJECT / path).is_file()] == []
    tree = text[text.index("```\npromptly/") : text.index("[sandbox/README.md]")]
    folders: list[str] = []
    missing = []
    for line in tree.splitlines()[1:]:
        names = re.match(r"( *)([^\s,]+(?:, [^\s,]+)*)", line)
        if names is None or line == "```":
            continue
        depth = len(names[1]) // 2
        for name in names[2].split(", "):
            path = "".join([*folders[:depth], name])
            if not list(PROJECT.glob(path.rstrip("/"))):
                missing.append(path)
        folders = [*folders[:depth], name] if name.endswith("/") else folders
    assert missing == []


def test_make_knows_its_commands() -> None:
    # Under `make test`, MAKEFLAGS would pass that make's options on to this one.
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    listed = set(re.findall(r"^  make (\S+)", shown, re.MULTILINE))
    assert {"run", "test", "check", "bench", "help"} <= listed


def test_documents_link_to_what_is_there() -> None:
    for document in (path for path in project_files() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"


def test_operators_find_every_variable() -> None:
    document = (PROJECT / "docs" / "operating.md").read_text()
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", document))
    assert {item.name.upper() for item in fields(Settings)} <= named


def test_clients_find_every_error_code() -> None:
    document = (PROJECT / "docs" / "api.md").read_text()
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PromptlyError)
    }
    assert {code for code in codes - {None} if f"`{code}`" not in document} == set()


def test_every_decision_is_listed() -> None:
    decisions = PROJECT / "docs" / "adr"
    listed = set(re.findall(r"\]\((\d{4}-[^)]+)\)", (decisions / "README.md").read_text()))
    assert listed == {path.name for path in decisions.glob("[0-9]*.md")}


def test_documented_sql_works_as_it_stands(session: Session) -> None:
    blocks = re.findall(
        r"```sql\n(.*?)```", (PROJECT / "docs" / "metering.md").read_text(), re.DOTALL
    )
    assert len(blocks) == 3
    for statement in blocks:
        session.execute(text(statement))


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    pattern = re.compile(rb"(?<![\w.}])/(?:work|root|home|Users)/|\.\./shared")
    found = [
        f"{path.relative_to(PROJECT)}: {match.group().decode()}"
        for path in project_files()
        if (match := pattern.search(path.read_bytes()))
    ]
    assert found == []
