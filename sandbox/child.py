"""Start a command that ends when its parent ends, as another user if root must not run it.

Run as a script, in a fresh interpreter, because a ``preexec_fn`` in a threaded parent can
deadlock. It applies the changes, then becomes the command by ``exec``, so that the process id
stays the one the parent knows.

    child.py PARENT_PID DEATH_SIGNAL UID:GID COMMAND ARGUMENT...     ("-" means no change of user)
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
SECBIT_KEEP_CAPS = 1 << 4
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def keep_passage(libc: ctypes.CDLL) -> None:
    """After the change of user, keep only the capability to traverse closed folders.

    Below a folder of mode 0700 the command reaches its files by CAP_DAC_OVERRIDE, kept as an
    ambient capability, so that no file modes have to change. Where the capability is not
    available (some containers), only the change of user remains.
    """
    bit = 1 << CAP_DAC_OVERRIDE
    sets = (_Sets * 2)(_Sets(bit, bit, bit), _Sets(0, 0, 0))
    header = _Header(CAPABILITY_VERSION_3, 0)
    if libc.capset(ctypes.byref(header), sets) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def become(libc: ctypes.CDLL | None, uid: int, gid: int) -> None:
    """Drop root for a user and its group; exit with 126 if that is not permitted."""
    if libc is not None:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        # PostgreSQL finds its programs with access(2), which checks on behalf of the real user
        # and ignores the capability without this bit.
        libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS, 0, 0, 0)
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        print(f"cannot become user {uid}: {error.strerror}", file=sys.stderr)
        sys.exit(126)
    if libc is not None:
        keep_passage(libc)


def main(arguments: list[str]) -> None:
    """Apply the changes and exec the command; exit with 127 if it cannot be executed."""
    parent, death_signal, user, *command = arguments
    # A shell ignores some of these in its background jobs, and children inherit that.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if user != "-":
        uid, gid = user.split(":")
        become(libc, int(uid), int(gid))
    if libc is not None:
        # Only after the change of user, which clears it.
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            return  # the parent ended before the signal was set
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
