"""A repository on GitHub, its server and a runner, on this machine.

The shell scripts and Git are real. `ssh` is a stand-in that runs the key's forced command as sshd
would, `gh` one that records its call, and so are, in the repository, deploy/deploy.sh and
scripts/smoke-test.py, which need a server with Docker or systemd.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.deploy.workflows import PROJECT, Runner

# The line of CONTRIBUTING.md for production's key.
[FORCED_COMMAND] = re.findall(
    r'^restrict,command="(~/promptly/[^"]+)" ssh-ed25519 ',
    (PROJECT / "CONTRIBUTING.md").read_text(),
    re.MULTILINE,
)
VERSION = "1.2.0"
NOTES = "- Something that operators notice."
URL = FORCED_COMMAND.split()[-1]
COPIED = ("deploy/request.sh", "deploy/receive.sh", "scripts/release_notes.py")
# Each records its call, then fails if the test says so.
RECORD = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
[ "$(basename "$0")" != "$FAILING" ]
"""
# The folder of key and known hosts is private; the last argument is the request.
SSH = """#!/bin/sh
while [ "$1" != -- ]; do
  [ "$1" != -i ] || stat -c '%a %n' "$2" "${2%/*}" >>"$KEYS"
  echo "$1" >>"$OPTIONS"
  shift
done
echo "ssh $2" >>"$CALLS"
SSH_ORIGINAL_COMMAND=$3 HOME=$SERVER sh -c "$FORCED_COMMAND"
"""
GH = """#!/bin/sh
echo "gh $*" >>"$CALLS"
cp "$RUNNER_TEMP/notes.md" "$CALLS.notes"
"""
SECRETS = {
    "secrets.GATEKEEPER_HOST": "gateway.example.com",
    "secrets.GATEKEEPER_USER": "deploy",
    "secrets.GATEKEEPER_SSH_KEY": "the private key",
    "vars.GATEKEEPER_KNOWN_HOSTS": "gateway.example.com ssh-ed25519 AAAA",
    "github.token": "token",
    "github.repository": "example/promptly",
}


class World:
    """A GitHub repository with one commit on main, cloned on a server and on a runner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.server = folder / "server" / "promptly"
        self.checkout = folder / "checkout"
        self.programs = folder / "programs"
        self.keys = folder / "keys"
        self.options = folder / "options"
        for path in (self.programs, folder / "temporary"):
            path.mkdir()
        for name, script in (("ssh", SSH), ("gh", GH)):
            write_program(self.programs / name, script)
        self.failing = ""
        self._make_repository()

    def _make_repository(self) -> None:
        self.git(self.folder, "init", "--quiet", "--initial-branch=main", "checkout")
        for name in COPIED:
            (self.checkout / name).parent.mkdir(exist_ok=True)
            shutil.copy(PROJECT / name, self.checkout / name)
        for name in ("deploy/deploy.sh", "scripts/smoke-test.py"):
            write_program(self.checkout / name, RECORD)
        (self.checkout / "promptly").mkdir()
        (self.checkout / "promptly" / "__init__.py").write_text(f'__version__ = "{VERSION}"\n')
        (self.checkout / "pyproject.toml").write_text(f'[project]\nversion = "{VERSION}"\n')
        (self.checkout / "CHANGELOG.md").write_text(
            f"# Changelog\n\n## Unreleased\n\n- Later.\n\n## {VERSION} (2026-12-01)\n\n{NOTES}\n"
            "\n## 1.1.0\n\n- Earlier.\n"
        )
        (self.checkout / ".gitignore").write_text(".promptly/\n__pycache__/\n")
        self.commit()
        self.git(self.folder, "clone", "--quiet", "--bare", "checkout", "origin.git")
        self.git(self.checkout, "remote", "add", "origin", self.folder / "origin.git")
        self.git(self.folder, "clone", "--quiet", "origin.git", self.server)

    def git(self, folder: Path, *arguments: str | Path) -> str:
        """Run git without the developer's configuration and return its output."""
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self) -> None:
        self.git(self.checkout, "add", "--all")
        self.git(self.checkout, "commit", "--quiet", "--allow-empty", "--message", "A change")

    def push(self) -> str:
        """Commit the checkout's changes, if any, push main, and return the commit."""
        self.commit()
        self.git(self.checkout, "push", "--quiet", "origin", "main")
        return self.head

    @property
    def head(self) -> str:
        """The newest commit of the checkout."""
        return self.git(self.checkout, "rev-parse", "HEAD")

    @property
    def variables(self) -> dict[str, str]:
        """The runner's environment, with what the stand-ins read."""
        return {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "temporary"),
            "RUNNER_TEMP": str(self.folder / "temporary"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "CALLS": str(self.calls),
            "FAILING": self.failing,
            "KEYS": str(self.keys),
            "OPTIONS": str(self.options),
            "SERVER": str(self.server.parent),
            "FORCED_COMMAND": FORCED_COMMAND,
        }

    def runner(self, *, branch: str = "main", **inputs: str) -> Runner:
        """Return a runner for the newest commit, started with these inputs."""
        given = {f"inputs.{name}": value for name, value in inputs.items()}
        github = {"GITHUB_SHA": self.head, "GITHUB_REF": f"refs/heads/{branch}"}
        return Runner(self.checkout, SECRETS | given, self.variables | github)

    def called(self) -> list[str]:
        """Return the calls of all stand-ins."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []


def write_program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
