import pytest

from promptly.gateway.session_headers import session_of


@pytest.mark.parametrize(
    "header",
    [
        "X-Claude-Code-Session-Id",
        "x-session-affinity",
        "X-Session-Id",
        "session-id",
        "x-litellm-session-id",
    ],
)
def test_the_headers_of_agents(header: str) -> None:
    assert session_of({"HTTP_" + header.upper().replace("-", "_"): "s1"}) == "s1"


def test_the_agents_own_header_goes_first() -> None:
    environ = {"HTTP_X_SESSION_ID": "proxy", "HTTP_X_CLAUDE_CODE_SESSION_ID": "agent"}
    assert session_of(environ) == "agent"


def test_no_header_no_name() -> None:
    assert session_of({"HTTP_X_SESSION_ID": "", "HTTP_X_REQUEST_ID": "r"}) == ""
