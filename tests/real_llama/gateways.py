"""The gateway in front of one real llama-server."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandbox.real_llama import RealLlama
from tests.support.servers import Gateway, WorkerRedis

API_KEY = "upstream-key"


@contextmanager
def running_gateway(
    folders: pytest.TempPathFactory, database: str, redis_server: WorkerRedis, llama: RealLlama
) -> Iterator[Gateway]:
    """Run a gateway with two workers that send keep-alive comments every second."""
    gateway = Gateway(
        folders.mktemp("gateway"),
        database_url=database,
        redis_url=redis_server.url,
        llama_urls=[llama.url],
        workers=2,
        KEEPALIVE_COMMENT_SECONDS=1,
        LLAMA_API_KEY=API_KEY,
    ).start()
    yield gateway
    gateway.kill()
