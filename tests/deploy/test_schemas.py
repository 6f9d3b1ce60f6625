"""GitHub's and Docker Compose's own schemas accept our files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.workflows import FOLDER, PROJECT

COMPOSE_FILES = sorted(PROJECT.glob("docker-compose*.yml"))


class ComposeLoader(yaml.SafeLoader):  # type: ignore[misc]  # no stubs
    """Reads a value behind one of Compose's merge tags, `!override` and `!reset`, without it."""


def without_tag(loader: ComposeLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


ComposeLoader.add_multi_constructor("!", without_tag)


def check(schema: str, *files: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run check-jsonschema with one of the schemas that it contains, on files or on a text."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *(files or ["-"])],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_workflows() -> None:
    ended = check("vendor.github-workflows", *sorted(FOLDER.iterdir()))
    assert ended.returncode == 0, ended.stdout


def test_dependabot() -> None:
    ended = check("vendor.dependabot", PROJECT / ".github" / "dependabot.yml")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_compose_files(path: Path) -> None:
    content = yaml.load(path.read_text(), ComposeLoader)
    ended = check("vendor.compose-spec", text=json.dumps(content))
    assert ended.returncode == 0, ended.stdout


def test_a_mistake_is_found() -> None:
    text = '{"on": "push", "jobs": {"test": {"run-on": "ubuntu-24.04", "steps": []}}}'
    assert check("vendor.github-workflows", text=text).returncode == 1
