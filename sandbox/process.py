"""Child processes that end with us, are stopped by escalating signals, and write a log."""

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
from typing import BinaryIO, ClassVar, TypeVar

CHILD_SCRIPT = Path(__file__).with_name("child.py")

T = TypeVar("T")

# Longest path that fits sun_path, with its terminating NUL, on every supported system.
SOCKET_PATH_BYTES = 103

# The kernel sends the death signal when the *thread* that forked ends. One thread that lives as
# long as the process therefore does all forks.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


def call_in_forker(call: Callable[[], T]) -> T:
    """Run a call in the thread that forks: children inherit what it changes of its thread."""
    return _forker.submit(call).result()


def _new_forker() -> None:
    global _forker
    _forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


os.register_at_fork(after_in_child=_new_forker)


class SandboxError(RuntimeError):
    """A part of the sandbox could not be started, stopped or reached."""


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    death_signal: signal.Signals = signal.SIGTERM,
    user: tuple[int, int] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in its own session, with its output appended to ``log``.

    The kernel sends ``death_signal`` when this process dies, even by SIGKILL (Linux). ``user`` is
    the uid and gid to switch to first, for root only.

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
    """Send each signal and wait its seconds; SIGKILL if the process still runs after the last."""
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


class Child:
    """Base class of servers that are one child process; subclasses start it."""

    stop_seconds: ClassVar[float] = 5.0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process is alive, even if paused."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections are accepted but get no answer."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a frozen process (SIGCONT)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _end(self) -> None:
        """Stop the process with SIGTERM; SIGKILL after ``stop_seconds``."""
        if self._process is not None:
            self.resume()
            stop(self._process, (signal.SIGTERM, self.stop_seconds))
            self._process = None


def wait_until(condition: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Poll every 10 ms until ``condition`` holds.

    Raises SandboxError naming ``what`` on timeout.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SandboxError(f"{what}: timed out after {timeout_seconds:g} s")
        time.sleep(0.01)


def tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log, or an empty string if it cannot be read."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def socket_directory(preferred: Path, socket_name: str) -> Path:
    """Return a folder in which a Unix socket of this name can be created.

    That is ``preferred`` (created if missing), or, if its path is too long or its file system
    does not support sockets, a new private folder under /tmp, which the caller removes.
    """
    if len(os.fsencode(preferred / socket_name)) <= SOCKET_PATH_BYTES:
        preferred.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _takes_sockets(preferred):
            return preferred
    return temporary_socket_directory()


def temporary_socket_directory() -> Path:
    """Return a new private folder with a short path; the caller removes it."""
    # Not TMPDIR, whose path may be too long as well.
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
