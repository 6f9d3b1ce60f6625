"""The account that PostgreSQL runs as, since it refuses to run as root."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox import process
from sandbox.process import SandboxError

# These exist on every Linux and macOS, so no account has to be created.
UNPRIVILEGED_USERS = ("nobody", "daemon")
PROBE_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Account:
    """A user and group that root switches to for one command."""

    uid: int
    gid: int

    def give(self, folder: Path) -> None:
        """Make this account the owner of a folder.

        Raises OSError if the file system or a missing capability prevents it.
        """
        os.chown(folder, self.uid, self.gid)

    def can_run(self, program: Path, *arguments: str) -> bool:
        """Whether this account can run the program, and it exits with 0."""
        return self._succeeds([program, *arguments])

    def can_enter(self, folder: Path) -> bool:
        """Whether this account can traverse all parent folders and enter this one."""
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
    """Return the account root must switch to: the owner of ``data``, or "nobody" for new data.

    None if we are not root: the server then runs as the current user. Raises SandboxError if that
    user does not own the data, or if there is no unprivileged user to switch to.
    """
    owner = _owner(data)
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise SandboxError(
                f"the data in {data} belongs to user {_name(owner.st_uid)}, not to you: "
                f"run as that user, or delete the folder {data.parents[1]}"
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
        "run as another user, or set DATABASE_URL to a PostgreSQL of your own"
    )


def check_name(uid: int) -> None:
    """Raise SandboxError if the user id has no name, which initdb requires."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise SandboxError(
            f"PostgreSQL cannot create its data as user {uid}, who has no name on this machine: "
            f"as root, add one (echo 'promptly:x:{uid}:{os.getegid()}::/:/bin/sh' >> "
            "/etc/passwd), or set DATABASE_URL to a PostgreSQL of your own"
        ) from None


def _owner(folder: Path) -> os.stat_result | None:
    try:
        return folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise SandboxError(
            f"{error.filename} cannot be read: run as the user that created it (root, if that was "
            "sudo make run), or in another folder"
        ) from error


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
