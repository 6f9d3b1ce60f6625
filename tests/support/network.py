"""Network namespaces and cables between them that a test can cut. Needs root and iproute2.

A namespace lives as long as its keeper, a process that ends with ours. Interfaces and routes end
with their namespace, so that not even a killed run leaves anything behind.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox import process

CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace; its loopback interface is up."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._log = directory / f"{name}-network.log"
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Create the namespace."""
        outside = _identity("self")
        keeper = ["unshare", "--net", "sleep", "infinity"]
        self._keeper = process.spawn(keeper, log=self._log, death_signal=signal.SIGKILL)
        pid = str(self.pid)
        process.wait_until(lambda: _identity(pid) != outside, 10, f"the namespace {self.name}")
        self.ip("link", "set", "lo", "up")

    def stop(self) -> None:
        """End the keeper; the namespace ends once no other process is in it."""
        if self._keeper is not None:
            process.stop(self._keeper)
            self._keeper = None

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        assert self._keeper is not None, f"the namespace {self.name} was not started"
        return self._keeper.pid

    @property
    def enter(self) -> list[str]:
        """The beginning of a command that runs in the namespace."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net"]

    def ip(self, *arguments: str) -> None:
        """Run a command of iproute2 in the namespace."""
        subprocess.run([*self.enter, "ip", *arguments], check=True, timeout=20)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run the block in the namespace, and all threads and processes that it starts."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            _move(there)
            yield
        finally:
            _move(home)
            os.close(there)
            os.close(home)


class Cable:
    """A link between two namespaces with one address at each end.

    An address may be the end of several cables, such as a server's with one to each client.
    """

    def __init__(self, name: str, near: Namespace, far: Namespace, addresses: tuple[str, str]):
        self._near = near
        self._far_address = addresses[1]
        # An interface's name has 15 characters at most, and is unique in its namespace.
        self._interface = f"{name}-{far.name}"
        near.ip(
            *("link", "add", self._interface, "type", "veth"),
            *("peer", "name", name, "netns", str(far.pid)),
        )
        ends = ((near, self._interface, addresses), (far, name, addresses[::-1]))
        for namespace, interface, (own, other) in ends:
            namespace.ip("address", "add", own, "peer", f"{other}/32", "dev", interface)
            namespace.ip("link", "set", interface, "up")

    def cut(self) -> None:
        """Unplug the cable: nothing arrives any more, in either direction."""
        self._near.ip("link", "set", self._interface, "down")

    def plug_in(self) -> None:
        """Undo `cut`."""
        self._near.ip("link", "set", self._interface, "up")

    def lose_answers(self) -> None:
        """Drop everything that the near end sends; the far end's packets still arrive."""
        self._near.ip("rule", "add", "to", self._far_address, "blackhole", "priority", "10")

    def deliver_answers(self) -> None:
        """Undo `lose_answers`."""
        self._near.ip("rule", "delete", "to", self._far_address, "blackhole", "priority", "10")


def _identity(process_id: str) -> str:
    return os.readlink(f"/proc/{process_id}/ns/net")


def _move(descriptor: int) -> None:
    """Move this thread to a namespace, and the one that forks."""
    _move_thread(descriptor)
    process.call_in_forker(lambda: _move_thread(descriptor))


def _move_thread(descriptor: int) -> None:
    # os.setns needs Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
