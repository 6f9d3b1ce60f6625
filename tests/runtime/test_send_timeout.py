"""A client that does not read is hung up on, whatever is being sent to it."""

import socket
from pathlib import Path

import psutil

from tests.support.books import wait_for
from tests.support.servers import Gateway
from tests.support.stack import Stack

# Far more answers than the buffers on the way can hold.
PIPELINED = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 500


def is_served(gateway: Gateway, port: int) -> bool:
    """Return whether a worker has a connection with a client's port."""
    return any(
        connection.raddr and connection.raddr.port == port
        for pid in gateway.worker_pids()
        for connection in psutil.Process(pid).net_connections("tcp")
    )


def test_a_page_that_is_not_read(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        gateway = stack.gateway(SEND_TIMEOUT_SECONDS=1)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", gateway.port))
            client.sendall(PIPELINED)
            port = client.getsockname()[1]
            wait_for(lambda: is_served(gateway, port), "the connection")
            wait_for(lambda: not is_served(gateway, port), "its end")
        assert gateway.is_ready()
        assert "Traceback" not in gateway.log_text()
