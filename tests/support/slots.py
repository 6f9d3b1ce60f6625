"""The scheduler's state in Redis, changed for tests that must not wait for it."""

import redis

NAME = """
local fields = cmsgpack.unpack(redis.call('GET', KEYS[1]))
fields[4] = 1
redis.call('SET', KEYS[1], cmsgpack.pack(fields), 'KEEPTTL')
"""


def name_slots(redis_url: str, server: str) -> None:
    """Let the time be over in which a server's requests are only counted.

    The server must have got one already. With the next one its slots become known.
    """
    with redis.Redis.from_url(redis_url) as client:
        client.eval(NAME, 1, f"promptly:slots2:record:{server}")
