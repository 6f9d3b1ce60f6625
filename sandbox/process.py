"""Child processes that are owned: they end with us, are stopped in steps, and leave a log."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

CHILD_SCRIPT = Path(__file__).with_name("child.py")

# The longest path that fits sun_path on every system we run on, with its closing zero byte.
SOCKET_PATH_BYTES = 103

# The kernel sends the death signal when the *thread* that forked ends. All forks therefore come
# from one thread that lives as long as the process, whoever asks for them.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


def _new_forker() -> None:
    global _forker
    _forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


os.register_at_fork(after_in_child=_new_forker)


class SandboxError(RuntimeError):
    """Something of the sandbox could not be started, stopped or reached."""


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    death_signal: signal.Signals = signal.SIGTERM,
    user: tuple[int, int] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, its output appended to ``log``.

    ``death_signal`` is what the kernel sends it when this process dies, even by SIGKILL (Linux).
    ``user`` is the uid and gid to become first, for root only.

    Raises SandboxError if the executable is not found.
    """
    executable = shutil.which(str(command[0]))
    if executable is None:
        raise SandboxError(f"{command[0]} is not installed")
    wrapper: list[str] = [sys.executable, "-I", "-S", str(CHILD_SCRIPT)]
    wrapper += [str(os.getpid()), str(int(death_signal))]
    wrapper += [f"{user[0]}:{user[1]}" if user else "-", executable]
    wrapper += [str(part) for part in command[1:]]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return _forker.submit(_popen, wrapper, output, env, cwd).result()


def _popen(
    command: list[str], output: BinaryIO, env: Mapping[str, str] | None, cwd: Path | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> None:
    """Send each signal and wait its seconds, ending with SIGKILL if nothing else helped."""
    for number, timeout_seconds in steps:
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            continue
        return
    if process.poll() is None:
        process.kill()
    process.wait()


def wait_until(condition: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Poll every 10 ms until ``condition`` holds.

    Raises SandboxError naming ``what`` when the time is up.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SandboxError(f"{what}: not within {timeout_seconds:g} s")
        time.sleep(0.01)


def tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log, or an empty text if there is none."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def socket_directory(preferred: Path, socket_name: str) -> Path:
    """Return a folder in which a Unix socket of this name can be made.

    That is ``preferred`` (made if missing), or, where its path is too long or its file system has
    no sockets, a new private folder in the temporary directory; the caller removes the latter.
    """
    if len(os.fsencode(preferred / socket_name)) <= SOCKET_PATH_BYTES:
        preferred.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _takes_sockets(preferred):
            return preferred
    return temporary_socket_directory()


def temporary_socket_directory() -> Path:
    """Return a new private folder with a short path; the caller removes it."""
    # Not TMPDIR, which may be as long.
    return Path(tempfile.mkdtemp(prefix="promptly-", dir="/tmp"))


def _takes_sockets(folder: Path) -> bool:
    probe = folder / ".probe"
    with socket.socket(socket.AF_UNIX) as server:
        try:
            probe.unlink(missing_ok=True)
            server.bind(str(probe))
            probe.unlink()
        except OSError:
            return False
    return True
