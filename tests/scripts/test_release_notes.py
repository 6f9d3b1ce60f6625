"""The release notes are the changelog's section of the code's version."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from promptly import __version__

CHANGELOG = """# Changelog

## Unreleased

- Not yet.

## 1.2.0 (2026-12-01)

- First.
  Continued.

### To do

- Second.

## 1.1.0

## 1.0.0

- Old.
"""


class Release:
    """A copy of the script in a project of a version."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.folder = folder
        for name in ("scripts", "promptly"):
            (folder / name).mkdir()
        shutil.copy(project / "scripts" / "release_notes.py", folder / "scripts")
        (folder / "CHANGELOG.md").write_text(CHANGELOG)

    def notes(self, *arguments: str, code: str = "1.2.0", package: str = "1.2.0") -> str:
        """Return the notes, or the message with which the script fails."""
        (self.folder / "promptly" / "__init__.py").write_text(f'__version__ = "{code}"\n')
        (self.folder / "pyproject.toml").write_text(f'[project]\nversion = "{package}"\n')
        ended = subprocess.run(
            # Without bytecode: versions of the same size may be written within one second.
            [sys.executable, "-B", "-m", "scripts.release_notes", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == (1 if ended.stderr else 0)
        return ended.stderr or ended.stdout


@pytest.fixture
def release(project: Path, tmp_path: Path) -> Release:
    return Release(project, tmp_path)


def test_a_section_ends_at_the_next_version(release: Release) -> None:
    assert release.notes("1.2.0") == "- First.\n  Continued.\n\n### To do\n\n- Second.\n"
    assert release.notes("1.0.0", code="1.0.0", package="1.0.0") == "- Old.\n"


@pytest.mark.parametrize("version", ["1.1.0", "1.2.1"])
def test_a_version_needs_text_in_the_changelog(release: Release, version: str) -> None:
    message = f'release: CHANGELOG.md has no text below a heading "## {version}"\n'
    assert release.notes(version, code=version, package=version) == message


def test_versions_have_three_numbers(release: Release) -> None:
    for version in ("", "1.2", "v1.2.0", "1.2.0-rc1", "01.2.0", "1.2.0\n", "１.2.0", "Unreleased"):
        assert "is not a version like 1.2.0" in release.notes(version)


def test_code_and_package_have_the_version(release: Release) -> None:
    assert "promptly/__init__.py has version 1.1.0" in release.notes("1.2.0", code="1.1.0")
    assert "pyproject.toml has version 1.1.0" in release.notes("1.2.0", package="1.1.0")


def test_code_and_package_have_one_version(project: Path) -> None:
    package = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert package["version"] == __version__


def test_a_missing_argument_prints_the_usage(release: Release) -> None:
    assert release.notes() == "usage: python3 -m scripts.release_notes VERSION\n"
