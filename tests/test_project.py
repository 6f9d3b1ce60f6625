"""Consistency of the files around the code: Makefile and documents."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly import errors
from promptly.settings import Settings

PROJECT = Path(__file__).parent.parent

# Folders that tools and runs leave behind.
_NOT_OURS = re.compile(r"\.(?!(ci|github)$).*|__pycache__|results|node_modules")


def project_files() -> Iterator[Path]:
    for folder, folders, names in os.walk(PROJECT):
        folders[:] = [name for name in folders if not _NOT_OURS.fullmatch(name)]
        # In a linked git worktree, `.git` is a file.
        yield from (Path(folder) / name for name in names if name not in {".env", ".git"})


def test_contributing_names_files_that_exist() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    questions = re.findall(r"^\| .*\? \| `([^`]+)` \|$", text, re.MULTILINE)
    assert len(questions) == 27
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
    document = (PROJECT / "docs" / "operating" / "configuration.md").read_text()
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
        r"```sql\n(.*?)```", (PROJECT / "docs" / "operating" / "metering.md").read_text(), re.DOTALL
    )
    assert len(blocks) == 4
    for statement in blocks:
        session.execute(text(statement))


def test_no_file_names_a_path_of_one_machine() -> None:
    pattern = re.compile(rb"(?<![\w.}])/(?:work|root|home|Users)/|\.\./shared")
    found = [
        f"{path.relative_to(PROJECT)}: {match.group().decode()}"
        for path in project_files()
        # Its paths lie inside BTCPay's images.
        if path.name != "docker-compose.btcpay.yml" and (match := pattern.search(path.read_bytes()))
    ]
    assert found == []
