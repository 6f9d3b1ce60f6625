"""`scripts/environment.sh` finds a Python, or says in one line what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = "scripts/environment.sh"
# Programs that the script itself calls.
TOOLS = ("sh", "dirname", "basename", "cat", "cksum", "cmp", "rm", "printf")


class Machine:
    """A project with a copy of the script, and a PATH with only TOOLS and what a test installs."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.programs / tool).symlink_to(found)
        (folder / "scripts").mkdir()
        shutil.copy(project / SCRIPT, folder / SCRIPT)
        (folder / "wanted.txt").write_text("")

    def install(self, name: str, script: str) -> None:
        """Install a shell script as a program on the PATH."""
        program = self.programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def install_python(self, name: str, version: str) -> None:
        """Install a fake Python that only reports its version, and that it lacks ensurepip."""
        minor = tuple(map(int, version.split(".")[:2]))
        self.install(
            name,
            'case "$2" in\n'
            f"*'sys.exit(not'*) exit {int(not (3, 11) <= minor <= (3, 14))} ;;\n"
            f"*python_version*) echo {version} ;;\n"
            "*ensurepip*) exit 1 ;;\n"
            f"*) echo {'.'.join(map(str, minor))} ;;\nesac",
        )

    def run(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script: it makes `.venv` from the empty wanted.txt."""
        return subprocess.run(
            [self.folder / SCRIPT, ".venv", "wanted.txt"],
            env={"PATH": str(self.programs), **variables},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(project: Path, tmp_path: Path) -> Machine:
    return Machine(project, tmp_path)


def test_an_unsupported_python_is_named(machine: Machine) -> None:
    machine.install_python("python3", "3.9.18")
    machine.install("apt-get", "exit 0")
    ended = machine.run()
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "promptly: Python 3.11 to 3.14 is needed (python3 is 3.9.18): apt-get install"
    )


def test_no_python_at_all(machine: Machine) -> None:
    assert machine.run().stderr == (
        "promptly: Python 3.11 to 3.14 is needed: install one, or uv, which brings one\n"
    )


def test_the_newest_supported_one_is_taken(machine: Machine) -> None:
    for name, version in (
        ("python3.14", "3.14.1"),
        ("python3.12", "3.12.7"),
        ("python3", "3.15.0"),
    ):
        machine.install_python(name, version)
    assert "with Python 3.14.1" in machine.run().stderr


def test_a_shim_that_leads_nowhere_is_passed_over(machine: Machine) -> None:
    machine.install("python3.13", "echo no such version >&2; exit 127")
    machine.install_python("python3.11", "3.11.2")
    assert "with Python 3.11.2" in machine.run().stderr


def test_a_requested_python_must_be_supported(machine: Machine) -> None:
    machine.install_python("python3.12", "3.12.7")
    machine.install_python("old", "3.10.1")
    assert (
        "PYTHON is old, version 3.10.1: Python 3.11 to 3.14 is needed"
        in machine.run(PYTHON="old").stderr
    )
    assert "PYTHON is none, which is not there" in machine.run(PYTHON="none").stderr


def test_without_venv_the_line_that_installs_it(machine: Machine) -> None:
    machine.install_python("python3", "3.13.5")
    machine.install("apt-get", "exit 0")
    ended = machine.run()
    assert "lacks its venv module: apt-get install python3.13-venv" in ended.stderr
    assert not (machine.folder / ".venv").exists()


def test_uv_is_used_where_python_is_missing(machine: Machine) -> None:
    machine.install("uv", f'for folder; do :; done; "{sys.executable}" -m venv "$folder"')
    assert machine.run().returncode == 0
    assert os.access(machine.folder / ".venv" / "bin" / "python", os.X_OK)


def test_an_environment_is_kept_until_its_requirements_change(machine: Machine) -> None:
    machine.install("python3", f'exec "{sys.executable}" "$@"')
    first = machine.run()
    assert (first.returncode, "installing packages" in first.stderr) == (0, True)
    (machine.folder / "wanted.txt").touch()
    assert machine.run().stderr == ""
    (machine.folder / "wanted.txt").write_text("# changed\n")
    assert "installing packages" in machine.run().stderr
    machine.install_python("other", "3.12.99")
    assert "making .venv with Python 3.12.99" in machine.run(PYTHON="other").stderr
