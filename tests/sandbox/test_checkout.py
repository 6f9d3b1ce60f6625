"""The checkout of another commit, and its environment."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from sandbox.checkout import checked_out, describe, resolve
from sandbox.environments import python_for
from sandbox.process import SandboxError

# Makes the script's environment: a Python that is a file, and a line per call.
SCRIPT = 'mkdir -p "$1/bin"; echo "$PYTHON $2" >> "$1/calls"; touch "$1/bin/python"'


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.com"]
    # Nothing of the developer's own configuration or hooks.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    variables |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", *identity, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a change")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    return folder


@pytest.mark.git
def test_a_commit_is_checked_out_and_removed(repository: Path) -> None:
    program = repository / "program"
    program.write_text("")
    program.chmod(0o755)
    first = commit(repository, kept="first", removed="first")
    git(repository, "rm", "--quiet", "removed")
    commit(repository, kept="second", added="second")
    (repository / "kept").write_text("third, not committed")

    with checked_out(repository, resolve(repository, first[:8])) as folder:
        assert {path.name for path in folder.iterdir()} == {"kept", "program", "removed"}
        assert (folder / "kept").read_text() == "first"
        assert (folder / "program").stat().st_mode & stat.S_IXUSR
    assert not folder.parent.exists()

    assert (repository / "kept").read_text() == "third, not committed"
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@pytest.mark.git
def test_the_checkout_is_removed_after_a_failure(repository: Path) -> None:
    only = commit(repository, kept="first")
    with pytest.raises(SystemExit), checked_out(repository, only) as folder:
        raise SystemExit(143)
    assert not folder.parent.exists()


@pytest.mark.git
def test_commits_are_named_as_git_names_them(repository: Path) -> None:
    first = commit(repository, kept="first")
    git(repository, "tag", "released")
    second = commit(repository, kept="second")
    assert resolve(repository, "released") == resolve(repository, "HEAD~1") == first
    assert second.startswith(describe(repository))
    (repository / "kept").write_text("third")
    assert describe(repository).endswith("-dirty")


@pytest.mark.git
@pytest.mark.parametrize("name", ["0123abcd", "--help", "HEAD:kept"])
def test_an_unknown_commit_is_refused(repository: Path, name: str) -> None:
    commit(repository, kept="first")
    with pytest.raises(SandboxError, match="rev-parse"):
        resolve(repository, name)


def checkout(folder: Path, requirements: str) -> Path:
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "environment.sh").write_text(SCRIPT)
    (folder / "requirements.txt").write_text(requirements)
    return folder


def test_checkouts_with_the_same_requirements_share_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTLY_CACHE", str(tmp_path / "cache"))
    base = python_for(checkout(tmp_path / "base", "flask==3.1"))
    now = python_for(checkout(tmp_path / "now", "flask==3.1"))
    other = python_for(checkout(tmp_path / "other", "flask==3.2"))
    assert base == now != other
    assert base.is_relative_to(tmp_path / "cache" / "environments")
    # The script runs each time, and does nothing if its own stamps say so.
    calls = (base.parents[1] / "calls").read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["requirements.txt"] * 2


def test_an_environment_that_cannot_be_made_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTLY_CACHE", str(tmp_path / "cache"))
    broken = checkout(tmp_path / "base", "")
    (broken / "scripts" / "environment.sh").write_text("exit 3")
    with pytest.raises(SandboxError, match=r"environment\.sh"):
        python_for(broken)


def test_a_commit_without_the_script_gets_a_plain_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTLY_CACHE", str(tmp_path / "cache"))
    old = tmp_path / "old"
    old.mkdir()
    (old / "requirements.txt").write_text("")
    python = python_for(old)
    subprocess.run([python, "-c", "import sys; assert sys.prefix != sys.base_prefix"], check=True)
    (python.parents[1] / "left").touch()
    assert python_for(old) == python
    assert (python.parents[1] / "left").exists(), "the environment was made again"
