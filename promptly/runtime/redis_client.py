"""Redis: bounded connections, short timeouts, and a breaker that makes outages cheap."""

import hashlib
import logging
import queue
import time
from collections.abc import Callable
from typing import Any

import redis
from flask import Flask
from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.retry import Retry

from promptly.runtime.redis_connection import READ_BYTES, RedisConnection
from promptly.settings import Settings

logger = logging.getLogger(__name__)

TIMEOUTS: dict[str, Any] = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}

# After a failure the breaker stays open this long, so that requests do not queue for Redis.
PAUSE_SECONDS = 1.0
WARNING_SECONDS = 60.0
MAX_CONNECTIONS = 64
# Of the page limiter.
LIMITER_CONNECTIONS = 32
LIMITER_WAIT_SECONDS = 2.0


class RedisUnavailable(Exception):
    """Redis is unreachable or the breaker is open; callers continue without it."""


class RedisRefused(RedisUnavailable):
    """Redis answered with an error: it is out of memory or read-only, or the command is wrong."""


class HotPathRedis:
    """Redis commands for the hot path: bounded, failing fast, over bare connections.

    redis-py's client adds pool checks, retries and telemetry to each call, at several times the
    cost of the call itself.
    """

    def __init__(self, url: str) -> None:
        self.client: redis.Redis = redis.Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_read_size=READ_BYTES, **TIMEOUTS
        )
        # The last one used is the next one taken, so that no more open than are needed.
        self._connections: queue.LifoQueue[RedisConnection] = queue.LifoQueue()
        for _ in range(MAX_CONNECTIONS):
            self._connections.put(RedisConnection(self.client.connection_pool))
        self._away_until = 0.0
        self._warned_at = -WARNING_SECONDS
        self._refused_at = -WARNING_SECONDS

    def command(self, *arguments: Any) -> Any:
        """Run one command; raises RedisUnavailable.

        A refusal does not open the breaker: it may concern this command alone.
        """
        self._raise_if_away()
        command = pack_command(arguments)
        connection = self._connections.get()
        try:
            # It may have gone while this command waited for a connection.
            self._raise_if_away()
            return connection.exchange(command)
        except redis.exceptions.NoScriptError:
            # For RedisScript, which knows the script.
            raise
        except redis.exceptions.ResponseError as problem:
            self._refused(problem)
            raise RedisRefused from problem
        except (redis.exceptions.RedisError, OSError) as problem:
            self._failed(problem)
            raise RedisUnavailable from problem
        finally:
            self._connections.put(connection)

    def script(self, source: str) -> "RedisScript":
        """Return a Lua script, which is sent to Redis when Redis does not have it cached."""
        return RedisScript(self, source)

    def _raise_if_away(self) -> None:
        if time.monotonic() < self._away_until:
            raise RedisUnavailable

    def _failed(self, problem: Exception) -> None:
        """Open the breaker; warn at most once per WARNING_SECONDS."""
        now = time.monotonic()
        self._away_until = now + PAUSE_SECONDS
        if now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            logger.warning(
                "Redis is away: limits hold per process until it returns",
                extra={"reason": type(problem).__name__},
            )

    def _refused(self, problem: redis.exceptions.ResponseError) -> None:
        """Report an error reply, at most once per WARNING_SECONDS."""
        now = time.monotonic()
        if now - self._refused_at >= WARNING_SECONDS:
            self._refused_at = now
            logger.error(
                "Redis refuses a command: this process continues without it",
                extra={"reason": str(problem)[:200]},
            )


class RedisScript:
    """A Lua script, called by its SHA-1."""

    def __init__(self, hot_path: HotPathRedis, source: str) -> None:
        self._hot_path = hot_path
        self._source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __call__(
        self,
        keys: list[str],
        arguments: list[Any],
        if_unknown: Callable[[], list[Any]] | None = None,
    ) -> Any:
        """Run the script; raises as HotPathRedis.command does.

        `if_unknown` makes other arguments for a Redis that does not know the script: after a
        restart one knows none, even if it has kept its data.
        """
        try:
            return self._hot_path.command("EVALSHA", self._sha, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            arguments = arguments if if_unknown is None else if_unknown()
            return self._hot_path.command("EVAL", self._source, len(keys), *keys, *arguments)


def limiter_uri(url: str) -> str:
    """Translate a Redis URL for the limits library, which has its own scheme for Unix sockets."""
    if url.startswith("unix://"):
        return "redis+unix://" + url.removeprefix("unix://")
    return url


def limiter_options(url: str) -> dict[str, Any]:
    """Return options of the limits library's storage: a pool whose callers wait for a connection.

    redis-py's usual pool raises an error when it is exhausted, which counts as an outage.
    """
    pool = redis.BlockingConnectionPool.from_url(
        url, max_connections=LIMITER_CONNECTIONS, timeout=LIMITER_WAIT_SECONDS, **TIMEOUTS
    )
    return {"connection_pool": pool}


def configure(app: Flask, settings: Settings) -> None:
    """Add the hot path's Redis access to the application; it connects on demand."""
    app.extensions["hot_path_redis"] = HotPathRedis(settings.redis_connection_url)
