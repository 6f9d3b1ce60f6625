"""The embedded Redis: persistence, crash, freeze."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sandbox.redis_server import EmbeddedRedis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path / "redis", persistent=True)
    yield server
    server.stop()


def test_a_persistent_server_keeps_its_data_over_stop_and_kill(server: EmbeddedRedis) -> None:
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("name", "lamp")
    server.restart()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("name") == b"lamp"
    server.kill()
    assert not server.is_running
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("name") == b"lamp"


def test_a_paused_server_does_not_answer_and_then_does(server: EmbeddedRedis) -> None:
    server.start()
    with redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / ("long" * 25))
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
    finally:
        server.stop()
