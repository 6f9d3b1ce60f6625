"""The name that a client gives its conversation in a header, if it does."""

from collections.abc import Mapping

# In the order in which they count. Codex names its conversations in the body: `prompt_cache_key`.
_NAMES = (
    "HTTP_X_CLAUDE_CODE_SESSION_ID",
    # opencode
    "HTTP_X_SESSION_AFFINITY",
    "HTTP_X_SESSION_ID",
    # Codex
    "HTTP_SESSION_ID",
    "HTTP_X_LITELLM_SESSION_ID",
)


def session_of(environ: Mapping[str, object]) -> str:
    """Return the session's name from a request's WSGI environment, or ""; never log it."""
    for name in _NAMES:
        value = environ.get(name)
        if value:
            return str(value)
    return ""
