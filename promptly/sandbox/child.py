"""Start a command that ends when its parent ends, as another user if root must not run it.

Run as a script, in a fresh interpreter, because a ``preexec_fn`` in a threaded parent can
deadlock. It changes what is asked for, then becomes the command by ``exec``; so the process
id stays the one the parent knows.

    child.py PARENT_PID DEATH_SIGNAL USER COMMAND ARGUMENT...      (USER "-" means no change)
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
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


def become(libc: ctypes.CDLL, user: str) -> None:
    """Give up root for ``user``, keeping only the right to pass through closed folders.

    A project under ``/root`` cannot be entered by another user; with CAP_DAC_OVERRIDE kept as
    an ambient capability the command still finds its files, and nobody's permissions change.
    Where the capability is not to be had (some containers), the plain change of user remains.
    """
    entry = pwd.getpwnam(user)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    bit = 1 << CAP_DAC_OVERRIDE
    sets = (_Sets * 2)(_Sets(bit, bit, bit), _Sets(0, 0, 0))
    header = _Header(CAPABILITY_VERSION_3, 0)
    if libc.capset(ctypes.byref(header), sets) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def main(arguments: list[str]) -> None:
    """Apply the changes and become the command; exits 127 if it cannot be executed."""
    parent, death_signal, user, *command = arguments
    # A shell ignores some of these for what it starts in the background, and they are inherited.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if user != "-":
            become(libc, user)
        # After the change of user, which clears it.
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            return  # the parent ended before the signal was set
    elif user != "-":
        entry = pwd.getpwnam(user)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
