import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from promptly.errors import BodyTooLarge, InvalidRequest
from promptly.gateway import json_body
from promptly.gateway.body_decoder import BYTE_ORDER_MARK, INLINE_BYTES, BodyDecoder
from promptly.gateway.json_bounds import Body
from tests.support.books import wait_for

MIB = 1024 * 1024
SMALL = b'{"a": 1}'
LARGE = json.dumps({"a": "x" * INLINE_BYTES}).encode()


@pytest.fixture
def decoder() -> BodyDecoder:
    return BodyDecoder(MIB, 1000)


@pytest.mark.parametrize("body", [SMALL, LARGE])
@pytest.mark.parametrize("coding", [None, "gzip"])
@pytest.mark.parametrize("mark", [b"", BYTE_ORDER_MARK])
def test_decoded(decoder: BodyDecoder, body: bytes, coding: str | None, mark: bytes) -> None:
    sent = gzip.compress(mark + body) if coding else mark + body
    value, size = decoder.decode(sent, coding, json_body.decode_object)
    assert value == json.loads(body)
    assert size == len(body)


HALF = r'{"a": "\ud83d", "\uDE00b": ["\ud83d\ude00\\ud83d", {"c": "\ud83d\ud83d\ude00"}]}'


@pytest.mark.parametrize("coding", [None, "gzip"])
def test_halves_of_surrogate_pairs_are_replaced(decoder: BodyDecoder, coding: str | None) -> None:
    def parse(body: Body) -> Any:
        value = json_body.check(json_body.decode_object(body), dict[str, Any])
        json_body.encode(value)
        return value

    sent = gzip.compress(HALF.encode()) if coding else HALF.encode()
    value, size = decoder.decode(sent, coding, parse)
    assert value == {"a": "\ufffd", "\ufffdb": ["\U0001f600\\ud83d", {"c": "\ufffd\U0001f600"}]}
    assert size == len(HALF)


def test_an_error_names_no_half_of_a_surrogate_pair(decoder: BodyDecoder) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        decoder.decode(rb'{"\ud800": 1, "\ud800": 2}', None, json_body.decode_object)
    assert refusal.value.param == "\ufffd"


@pytest.mark.parametrize("body", [rb'{"a": 1, "a": 2}', b'{"a": "\\u', b'{"a": "\\ud8'])
def test_a_refused_body_without_halves_is_parsed_once(decoder: BodyDecoder, body: bytes) -> None:
    parsed = []

    def parse(body: Body) -> None:
        parsed.append(body)
        json_body.decode_object(body)

    with pytest.raises(InvalidRequest):
        decoder.decode(body, None, parse)
    assert parsed == [body]


def test_the_bounds_hold_before_anything_is_parsed(decoder: BodyDecoder) -> None:
    def parse(_: Any) -> None:
        pytest.fail("parsed")

    for body, coding, error in (
        (b"[" + b"{}," * 1000 + b"0]", None, InvalidRequest),
        (gzip.compress(b"[" + b"{}," * 1000 + b"0]"), "gzip", InvalidRequest),
        (gzip.compress(b" " * (MIB + 1)), "gzip", BodyTooLarge),
    ):
        with pytest.raises(error):
            decoder.decode(body, coding, parse)


def test_a_compressed_body_waits_behind_plain_ones(decoder: BodyDecoder) -> None:
    running, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def hold(_: Any) -> None:
        running.set()
        go_on.wait(20)

    def note(name: str, _: Any) -> None:
        order.append(name)

    def are_waiting(count: int) -> bool:
        return len(decoder._turns._waiting) == count

    def start(body: bytes, coding: str | None, parse: Callable[[Any], None]) -> threading.Thread:
        thread = threading.Thread(target=decoder.decode, args=(body, coding, parse))
        thread.start()
        return thread

    threads = [start(LARGE, None, hold)]
    assert running.wait(20)
    compressed = gzip.compress(SMALL)
    for waiting, (body, coding, name) in enumerate(
        [(compressed, "gzip", "compressed"), (LARGE, None, "plain")], start=1
    ):
        threads.append(start(body, coding, partial(note, name)))
        wait_for(partial(are_waiting, waiting), name)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert order == ["plain", "compressed"]


# The parser of a large body ends only if another greenlet runs meanwhile; that of a small one runs
# in the greenlet's own thread.
UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, threading
from promptly.errors import InvalidRequest
from promptly.gateway.body_decoder import BodyDecoder, INLINE_BYTES
get_native_id = monkey.get_original("threading", "get_native_id")
own = get_native_id()
decoder = BodyDecoder(2**20, 1000)
lock = monkey.get_original("_thread", "allocate_lock")()
lock.acquire()
gevent.spawn(lock.release)
large = bytes(INLINE_BYTES + 1)
assert decoder.decode(large, None, lambda body: lock.acquire()) == (True, len(large))
assert decoder.decode(large, None, lambda body: get_native_id())[0] != own
assert decoder.decode(b"{}", None, lambda body: get_native_id())[0] == own
def refuse(body):
    raise InvalidRequest("secret text")
try:
    decoder.decode(large, None, refuse)
except InvalidRequest:
    print("done")
"""


def test_large_bodies_leave_the_event_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "done\n"
    # The caller handles it, so gevent prints nothing of it.
    assert done.stderr == ""
