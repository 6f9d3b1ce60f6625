"""Gateways and the servers around them, started on request and ended together.

PostgreSQL and Redis are given: those of the test run, or a test's own (process_stack.py).
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from sandbox.checkout import Code
from sandbox.llama import SimulatedLlama
from sandbox.real_llama import RealLlama
from tests.support.books import BooksReader
from tests.support.servers import VARIABLES, Gateway


class Server(Protocol):
    """A server that can be stopped even if it was never started."""

    def start(self) -> object: ...

    def stop(self) -> None: ...


ServerT = TypeVar("ServerT", bound=Server)


class Stack:
    """The gateways of one database, their model servers, and the database's books.

    The end of the `with` block ends everything in reverse order, even if some of it fails.
    `variables` are environment variables of every gateway. By default no database, Redis or
    model server is reachable.
    """

    def __init__(
        self,
        directory: Path,
        *,
        database_url: str = VARIABLES["DATABASE_URL"],
        redis_url: str = VARIABLES["REDIS_URL"],
        **variables: object,
    ) -> None:
        self.directory = directory
        self.database_url = database_url
        self.redis_url = redis_url
        self.variables = variables
        self.gateways: list[Gateway] = []
        self._folders: Counter[str] = Counter()
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @cached_property
    def books(self) -> BooksReader:
        books = BooksReader(self.database_url, self.redis_url)
        self._ends.callback(books.close)
        return books

    def run(self, server: ServerT) -> ServerT:
        """Start a server, and stop it at the end."""
        # Registered first, so that a start that is interrupted leaves no process either.
        self._ends.callback(server.stop)
        server.start()
        return server

    def simulated_llama(self, **options: Any) -> SimulatedLlama:
        """Start a simulated llama-server with `SimulatedLlama`'s options."""
        return self.run(SimulatedLlama(self._folder("llama"), **options))

    def real_llama(self, **options: Any) -> RealLlama:
        """Start a real llama-server with `RealLlama`'s options."""
        return self.run(RealLlama(self._folder("real-llama"), **options))

    def gateway(self, *llama_urls: str, **options: Any) -> Gateway:
        """Start a gateway and return once it answers; options as for `make_gateway`."""
        return self.make_gateway(*llama_urls, **options).start()

    def make_gateway(
        self,
        *llama_urls: str,
        workers: int = 1,
        port: int | None = None,
        host: str = "127.0.0.1",
        enter: Sequence[str] = (),
        code: Code | None = None,
        **variables: object,
    ) -> Gateway:
        """Create a gateway without starting it; at the end it is killed."""
        addresses = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        if llama_urls:
            addresses["LLAMA_BASE_URL"] = ",".join(llama_urls)
        gateway = Gateway(
            self._folder("gateway"),
            workers=workers,
            port=port,
            host=host,
            enter=enter,
            code=code,
            **{**self.variables, **addresses, **variables},
        )
        self.gateways.append(gateway)
        self._ends.callback(gateway.kill)
        return gateway

    def _folder(self, kind: str) -> Path:
        """Return a folder for one more server of a kind: `gateway0`, `gateway1` and so on."""
        number = self._folders[kind]
        self._folders[kind] += 1
        return self.directory / f"{kind}{number}"
