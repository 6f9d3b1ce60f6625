"""Headers for pages of other origins."""

import pytest

from promptly.openapi.headers import HEADERS
from promptly.runtime.cors import EXPOSED, Cors

OURS, OTHER = "https://app.example.com", "https://evil.example"
ASKED = {
    "HTTP_ORIGIN": OURS,
    "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST",
    "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": "authorization,content-type, x-stainless-os",
}


def test_every_documented_header_is_exposed() -> None:
    assert set(EXPOSED) == {*HEADERS, "request-id"}


def test_any_origin() -> None:
    rules = Cors(("*",))
    found = dict(rules.headers(OTHER))
    assert found.pop("access-control-allow-origin") == "*"
    assert found.pop("access-control-expose-headers").startswith("x-request-id, request-id, ")
    assert found == {}
    assert dict(rules.preflight(ASKED) or ()) == {
        "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
        "access-control-allow-headers": "authorization,content-type, x-stainless-os",
        "access-control-max-age": "86400",
    }


def test_listed_origins() -> None:
    rules = Cors((OURS, "https://two.example"))
    found = dict(rules.headers(OURS))
    assert found["access-control-allow-origin"] == OURS
    assert found["vary"] == "Origin"
    assert rules.headers(OTHER) == (("vary", "Origin"),)
    assert rules.preflight(ASKED) is not None
    assert rules.preflight({**ASKED, "HTTP_ORIGIN": OTHER}) is None


def test_no_origin() -> None:
    rules = Cors(())
    assert rules.headers(OURS) == ()
    assert rules.preflight(ASKED) is None


@pytest.mark.parametrize("missing", ["HTTP_ORIGIN", "HTTP_ACCESS_CONTROL_REQUEST_METHOD"])
def test_other_requests_are_no_preflight(missing: str) -> None:
    environ = {name: value for name, value in ASKED.items() if name != missing}
    assert Cors(("*",)).preflight(environ) is None


@pytest.mark.parametrize(
    "names", ["", "a b", "a\r\nx: y", "a,,b", "a,", "é", '"a"', ",".join(["a" * 50] * 100)]
)
def test_only_names_of_headers_are_repeated(names: str) -> None:
    environ = {**ASKED, "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": names}
    found = dict(Cors(("*",)).preflight(environ) or ())
    assert found["access-control-allow-headers"] == "authorization, content-type"
