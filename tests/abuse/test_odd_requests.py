"""Keys where no key belongs, and the values that once were answered with a 500."""

from functools import partial

import pytest

from tests.abuse.arena import Arena
from tests.abuse.sockets import at_once, head, pour, status_of
from tests.support.signing import encode, stripe_headers, thin

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

# The rest of a key is never shown.
PREFIX_LENGTH = 12


def misplaced(key: str) -> list[bytes]:
    """Return requests with a key in each place that a parser may complain about."""
    lines = [
        f"GET /admin?key={key}&q=\xe9 HTTP/1.1\r\nHost: [::1]",
        f"GET http://[{key}/ HTTP/1.1\r\nHost: [::1]",
        f"GET http://{key}:99999999/ HTTP/1.1\r\nHost: [::1]",
        f"GET / HTTP/1.1\r\nHost: [::1]\r\nExpect: {key}",
        f"GET / HTTP/1.1\r\nHost: [::1]\r\n{key} x: y",
        f"GET / HTTP/1.1\r\nHost: {key}",
        f"GET / HTTP/{key}\r\nHost: [::1]",
        f"{key} / HTTP/1.1\r\nHost: [::1]",
        f"POST / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: {key}",
        f"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: {key}",
        f"GET /v1/models HTTP/1.1\r\nHost: [::1]\r\nAuthorization: \xff {key}",
        f"GET /v1/{key}/\xff HTTP/1.1\r\nHost: [::1]",
    ]
    return [f"{line}\r\n\r\n".encode("latin-1") for line in lines]


def test_keys_in_odd_places(arena: Arena) -> None:
    key = arena.trial_account().key
    requests = misplaced(key)

    def send() -> list[bytes]:
        return [pour(arena.port, request, [], 30) for request in requests]

    def attack() -> None:
        for answer in [answer for answers in at_once(8, send) for answer in answers]:
            assert (status_of(answer) or 400) < 500, answer[:200]
            assert key[PREFIX_LENGTH:].encode() not in answer

    arena.withstand(attack)
    log = arena.gateway.log_text()
    # The search covers what these requests have logged.
    assert '"invalid request"' in log
    assert key[PREFIX_LENGTH:] not in log


def test_values_that_were_a_500(arena: Arena) -> None:
    key = arena.trial_account().key
    page = {"Sec-Fetch-Mode": "navigate"}
    event = encode(thin(type="v1.nobody.uses.this"))
    form = {"Content-Type": "application/json", "Content-Length": len(event)}
    odd = head("POST", "/stripe/webhook", {**form, "Stripe-Signature": "t=1,v1=\udcff"}) + event
    requests = {
        head("GET", f"/dashboard?key={key}&endpoint=x&values=y&self=z", page): 303,
        head("GET", f"/dashboard?key={key}&_method=x&_external=1&_scheme=z&_anchor=q", page): 303,
        head("GET", "/admin?endpoint=x&_method=y"): 403,
        odd: 400,
    }

    def send(request: bytes) -> int | None:
        return status_of(pour(arena.port, request, [], 30))

    def attack() -> None:
        # Signed in this minute, as a provider's delivery is.
        signed = head("POST", "/stripe/webhook", {**form, **stripe_headers(event)}) + event
        for request, status in {**requests, signed: 200}.items():
            assert set(at_once(8, partial(send, request))) <= {status, 429}, request[:80]

    arena.withstand(attack)
