"""The process that holds the public socket, and the health check of one gateway."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from promptly.runtime import listener
from sandbox import process
from sandbox.ports import free_port
from tests.support.servers import PROJECT


class Holder:
    """A listener process on a free port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.path = folder / "listener.sock"
        self.log = folder / "listener.log"

    def start(self, path: Path | None = None) -> subprocess.Popen[bytes]:
        environment = {
            "PYTHONPATH": str(PROJECT),
            "GATEWAY_PORT": str(self.port),
            "LISTENER_SOCKET": str(path or self.path),
        }
        command = [sys.executable, "-m", "promptly.runtime.listener"]
        return process.spawn(command, log=self.log, env=environment, cwd=self.log.parent)

    def answers(self) -> bool:
        """Fetch the socket and let a client connect through it."""
        with ExitStack() as ends:
            descriptor, connection = listener.receive(str(self.path))
            ends.enter_context(connection)
            public = ends.enter_context(socket.socket(fileno=descriptor))
            client = ends.enter_context(socket.create_connection(("127.0.0.1", self.port), 10))
            accepted = ends.enter_context(public.accept()[0])
            return bool(accepted.getpeername() == client.getsockname())


@pytest.fixture
def holder() -> Iterator[Holder]:
    folder = process.temporary_socket_directory()
    yield Holder(folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.fixture
def running(holder: Holder) -> Iterator[subprocess.Popen[bytes]]:
    started = holder.start()
    assert holder.answers()
    yield started
    process.stop(started)


def test_several_processes_share_one_queue(
    holder: Holder, running: subprocess.Popen[bytes]
) -> None:
    descriptors = []
    for _ in range(2):
        descriptor, connection = listener.receive(str(holder.path))
        connection.close()
        descriptors.append(descriptor)
    old, new = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    with new, socket.create_connection(("127.0.0.1", holder.port), 10) as client:
        # A connection that waits when the old process closes is the new one's.
        old.close()
        accepted, address = new.accept()
        accepted.close()
        assert address == client.getsockname()


def test_other_peers_do_not_disturb(holder: Holder, running: subprocess.Popen[bytes]) -> None:
    with ExitStack() as ends:
        for said in (b"", b"", b"GET / HTTP/1.1\r\n\r\n" * 1000):
            peer = ends.enter_context(socket.socket(socket.AF_UNIX))
            peer.connect(str(holder.path))
            peer.sendall(said)
        hasty = socket.socket(socket.AF_UNIX)
        hasty.connect(str(holder.path))
        hasty.close()
        assert holder.answers()
    assert holder.answers()
    assert running.poll() is None


def test_ended_peers_are_forgotten(holder: Holder, running: subprocess.Popen[bytes]) -> None:
    open_files = Path(f"/proc/{running.pid}/fd")
    before = len(list(open_files.iterdir()))
    for _ in range(20):
        assert holder.answers()
    process.wait_until(lambda: len(list(open_files.iterdir())) <= before, 10, "closed peers")


@pytest.mark.as_root
def test_another_user_cannot_connect(holder: Holder, running: subprocess.Popen[bytes]) -> None:
    holder.path.parent.chmod(0o755)
    os.seteuid(65534)
    try:
        with socket.socket(socket.AF_UNIX) as peer, pytest.raises(PermissionError):
            peer.connect(str(holder.path))
    finally:
        os.seteuid(0)


def test_the_connection_ends_with_the_holder(
    holder: Holder, running: subprocess.Popen[bytes]
) -> None:
    descriptor, connection = listener.receive(str(holder.path))
    os.close(descriptor)
    with connection:
        running.kill()
        connection.settimeout(10)
        assert connection.recv(1) == b""


def test_a_file_left_behind_is_replaced(holder: Holder, running: subprocess.Popen[bytes]) -> None:
    running.kill()
    running.wait()
    assert holder.path.exists()
    second = holder.start()
    try:
        assert holder.answers()
        second.send_signal(signal.SIGTERM)
        assert second.wait(10) == 0
        assert not holder.path.exists()
    finally:
        process.stop(second)


def test_a_second_copy_leaves_the_first_alone(
    holder: Holder, running: subprocess.Popen[bytes]
) -> None:
    second = holder.start()
    assert second.wait(10) == 1
    assert f"cannot listen on 127.0.0.1:{holder.port}" in holder.log.read_text()
    assert holder.answers()


def test_without_a_holder_the_wait_ends(holder: Holder) -> None:
    with pytest.raises(OSError):
        listener.receive(str(holder.path), seconds=0)


def test_the_variable_must_be_set() -> None:
    for module, code in (("listener", 1), ("health_check", 1)):
        done = subprocess.run(
            [sys.executable, "-m", f"promptly.runtime.{module}"],
            cwd=PROJECT,
            env={},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert "is not set" in done.stderr
