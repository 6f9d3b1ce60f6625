"""Starts things in order, watches that they live, and stops them in the order given."""

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
HASTY_SECONDS = 1.0


@dataclass(frozen=True)
class Part:
    """One thing that must live: how to see that it does, where its log is, how to stop it."""

    name: str
    lives: Callable[[], bool]
    stop: Callable[[], None]
    log: Path


class Supervisor:
    """The parts of a running product, and the wish to stop."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.stopping = threading.Event()
        self.hastened = threading.Event()

    def listen_to_signals(self) -> None:
        """Stop at SIGINT or SIGTERM; a second one hastens."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.ask_to_stop())

    def ask_to_stop(self) -> None:
        """Wish to stop; a second time: without waiting for work in progress."""
        if self.stopping.is_set():
            self.hastened.set()
        self.stopping.set()

    def add(self, part: Part) -> None:
        """Watch a part that has been started. Parts are stopped in reverse order of starting."""
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
        """Start a command and watch it. SIGTERM stops it; after its patience, SIGKILL."""
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
        """Raise SandboxError naming a part that has ended, with the end of its log."""
        for part in self.parts:
            if not part.lives():
                raise SandboxError(
                    f"{part.name} has ended unexpectedly; the end of {part.log}:\n"
                    f"{process.tail(part.log)}"
                )

    def wait_until(self, condition: Callable[[], bool], timeout_seconds: float, what: str) -> bool:
        """Wait while all parts live; False if asked to stop meanwhile.

        Raises SandboxError when a part ends or the time is up.
        """
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise SandboxError(f"{what}: not within {timeout_seconds:g} s")
            if self.stopping.wait(WATCH_SECONDS):
                return False
        return True

    def watch(self) -> None:
        """Return when asked to stop. Raises SandboxError when a part ends by itself."""
        while not self.stopping.wait(WATCH_SECONDS):
            self.check()

    def stop_all(self) -> None:
        """Stop every part, the last started first; one that fails does not spare the others."""
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
        # Its session is its own: whatever it left behind goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
