"""One address in front of several gateways, each connection in turn, as a load balancer does it."""

import itertools
import socket
import threading
from collections.abc import Iterator

from tests.support.servers import Gateway
from tests.support.tcp_proxy import TcpProxy


class Front(TcpProxy):
    """Forward connections to the gateways in rotation; those that are open stay where they are."""

    def __init__(self) -> None:
        self._turns: Iterator[tuple[str, int]] = iter(())
        self._turn = threading.Lock()
        super().__init__(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def route_to(self, *gateways: Gateway) -> None:
        """Put these gateways into rotation, and take all others out of it."""
        with self._turn:
            self._turns = itertools.cycle([(gateway.host, gateway.port) for gateway in gateways])

    def _connect(self) -> socket.socket:
        # The lock is held while connecting: after `route_to` no connection to another port begins.
        with self._turn:
            return socket.create_connection(next(self._turns), 10)
