"""Print the changelog's section of a version, and check that it can be released.

    python3 -m scripts.release_notes 1.2.0

Exits with a message if the version is not of the form 1.2.0, if it is not the code's version, or if
CHANGELOG.md does not describe it.
"""

import re
import sys
import tomllib
from pathlib import Path

from promptly import __version__

PROJECT = Path(__file__).parents[1]
VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", re.ASCII)


class NotReleasable(Exception):
    """The version cannot be released; the message says why."""


def release_notes(version: str) -> str:
    """Return the text below the heading `## <version>` of CHANGELOG.md."""
    if not VERSION.fullmatch(version):
        raise NotReleasable(f"{version!r} is not a version like 1.2.0")
    packaged = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    for place, found in (("promptly/__init__.py", __version__), ("pyproject.toml", packaged)):
        if found != version:
            raise NotReleasable(f"{place} has version {found}, not {version}")
    notes = section((PROJECT / "CHANGELOG.md").read_text(), version)
    if not notes:
        raise NotReleasable(f'CHANGELOG.md has no text below a heading "## {version}"')
    return notes


def section(changelog: str, version: str) -> str:
    """Return the text below a version's heading, which may add a date; empty if there is none."""
    heading = rf"^## {re.escape(version)}(?: [^\n]*)?$"
    found = re.search(rf"{heading}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def main(arguments: list[str]) -> str | None:
    """Print the notes and return None, or return what is wrong."""
    if len(arguments) != 1:
        return "usage: python3 -m scripts.release_notes VERSION"
    try:
        sys.stdout.write(f"{release_notes(arguments[0])}\n")
    except NotReleasable as reason:
        return f"release: {reason}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
