"""Starts parts in order, watches that they stay alive, and stops them in reverse order."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox import process
from sandbox.process import SandboxError

WATCH_SECONDS = 0.2
# gunicorn itself gives its workers 2 s from the second signal on.
HASTY_SECONDS = 3.0


@dataclass(frozen=True)
class Part:
    """A supervised part: how to check that it is alive, how to stop it, where its log is."""

    name: str
    lives: Callable[[], bool]
    stop: Callable[[], None]
    log: Path


class Supervisor:
    """The parts of a running product, and the request to stop."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.stopping = threading.Event()
        self.hastened = threading.Event()

    def listen_to_signals(self) -> None:
        """Stop on SIGINT or SIGTERM; a second signal hastens the shutdown."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.ask_to_stop())

    def ask_to_stop(self) -> None:
        """Request a stop; a second call ends work in progress instead of waiting for it."""
        if self.stopping.is_set():
            self.hastened.set()
        self.stopping.set()

    def add(self, part: Part) -> None:
        """Watch a started part. Parts are stopped in the reverse order of ``add``."""
        self.parts.append(part)

    def start_process(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str],
        timeout_seconds: float,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Start and watch a command. SIGTERM stops it, SIGKILL after ``timeout_seconds``."""
        child = process.spawn(command, log=log, cwd=cwd, env=env, death_signal=death_signal)
        self.add(
            Part(
                name,
                lambda: child.poll() is None,
                lambda: self._end(child, timeout_seconds),
                log,
            )
        )

    def check(self) -> None:
        """Raise SandboxError, with the end of its log, if a part has ended."""
        for part in self.parts:
            if not part.lives():
                raise SandboxError(
                    f"{part.name} has ended unexpectedly; last lines of {part.log}:\n"
                    f"{process.tail(part.log)}"
                )

    def wait_until(self, condition: Callable[[], bool], timeout_seconds: float, what: str) -> bool:
        """Wait until the condition holds; False if asked to stop first.

        Raises SandboxError if a part ends or the time is up.
        """
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise SandboxError(f"{what}: timed out after {timeout_seconds:g} s")
            if self.stopping.wait(WATCH_SECONDS):
                return False
        return True

    def watch(self) -> None:
        """Block until asked to stop. Raises SandboxError if a part ends by itself."""
        while not self.stopping.wait(WATCH_SECONDS):
            self.check()

    def stop_all(self) -> None:
        """Stop every part, last started first, even if one fails to stop."""
        while self.parts:
            part = self.parts.pop()
            try:
                part.stop()
            except (SandboxError, OSError) as error:
                print(f"{part.name}: {error}", flush=True)

    def _end(self, child: subprocess.Popen[bytes], timeout_seconds: float) -> None:
        child.terminate()
        deadline = time.monotonic() + timeout_seconds
        hasty = False
        while child.poll() is None and time.monotonic() < deadline:
            if self.hastened.is_set() and not hasty:
                hasty = True
                deadline = min(deadline, time.monotonic() + HASTY_SECONDS)
                child.send_signal(signal.SIGQUIT)
            time.sleep(0.02)
        # It leads its own process group: kill any children it left behind.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
