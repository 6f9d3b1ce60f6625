"""The old release of an upgrade: UPGRADE_FROM names it, a tag or a commit."""

import os
from collections.abc import Iterator

import pytest

from sandbox.checkout import ROOT, Code, checked_out, resolve
from sandbox.environments import python_for
from sandbox.process import SandboxError

RELEASE_BEFORE = "v0.1.0"


@pytest.fixture
def code_before() -> Iterator[Code]:
    """The old release's code, and a Python with its requirements."""
    name = os.environ.get("UPGRADE_FROM", "")
    try:
        commit = resolve(ROOT, name or RELEASE_BEFORE)
    except SandboxError as problem:
        if name:
            raise
        advice = "git fetch --tags --unshallow"
        pytest.skip(f"no {RELEASE_BEFORE} in this checkout ({advice}): {problem}")
    with checked_out(ROOT, commit) as folder:
        yield Code(folder, python_for(folder))
