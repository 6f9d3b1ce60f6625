"""The account that PostgreSQL runs as: it refuses to be root."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox import process
from sandbox.process import SandboxError

# They exist on every Linux and macOS, so no account has to be created.
UNPRIVILEGED_USERS = ("nobody", "daemon")
PROBE_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Account:
    """A user and group that root becomes for one command."""

    uid: int
    gid: int

    def give(self, folder: Path) -> None:
        """Make this account the owner of a folder.

        Raises OSError where the file system or a missing capability forbids it.
        """
        os.chown(folder, self.uid, self.gid)

    def can_run(self, program: Path, *arguments: str) -> bool:
        """Whether this account can start a program where it lies, and it exits with 0."""
        return self._succeeds([program, *arguments])

    def can_enter(self, folder: Path) -> bool:
        """Whether this account gets through all folders above, and into this one."""
        return self._succeeds(["/bin/sh", "-c", 'cd "$1"', "sh", folder])

    def _succeeds(self, command: Sequence[str | Path]) -> bool:
        with tempfile.TemporaryDirectory(prefix="promptly-") as folder:
            child = process.spawn(
                command, log=Path(folder) / "log", user=(self.uid, self.gid), cwd=Path("/")
            )
            try:
                return child.wait(PROBE_TIMEOUT_SECONDS) == 0
            except subprocess.TimeoutExpired:
                process.stop(child)
                return False


def server_account(data: Path) -> Account | None:
    """Return whom root has to become to serve ``data``: its owner, or nobody for new data.

    None if we are not root: then the server runs as we do.
    Raises SandboxError if the data belong to root or to somebody else than us.
    """
    owner = _owner(data)
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise SandboxError(
                f"the data in {data} belong to user {_name(owner.st_uid)}, not to you: "
                f"run as the user that made them, or delete the folder {data.parents[1]}"
            )
        return None
    if owner is not None and owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise SandboxError(
        "PostgreSQL must not run as root, and there is no user 'nobody' to run it: "
        "run as another user, or name a PostgreSQL in DATABASE_URL"
    )


def check_name(uid: int) -> None:
    """Raise SandboxError if a user has no name, which initdb asks for."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise SandboxError(
            f"PostgreSQL cannot make its data as user {uid}, who has no name on this machine: "
            f"have root add one (echo 'promptly:x:{uid}:{os.getegid()}::/:/bin/sh' >> "
            "/etc/passwd), or name a PostgreSQL in DATABASE_URL"
        ) from None


def _owner(folder: Path) -> os.stat_result | None:
    try:
        return folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise SandboxError(
            f"{error.filename} cannot be read: run as the user that made it (root, if it was "
            "sudo make run), or in another folder"
        ) from error


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
