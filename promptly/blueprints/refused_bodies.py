"""Behind proxies, receives the small body of a refused request before the refusal is sent.

nginx passes bodies on as they arrive. If it gets the response before it has passed on the whole
body, it forwards the response without `Connection: close`, closes the client's connection all the
same, and the next request on that connection fails.
"""

from contextlib import suppress
from typing import Any

from gevent import Timeout
from gunicorn.http.errors import ParseException
from werkzeug.wsgi import get_content_length

# Agents' prompts rarely exceed this. Larger bodies are refused before they are sent.
SMALL_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024
# Bodies of this size arrive together with their headers.
SECONDS = 2.0


def receive_small(environ: dict[str, Any], trusted_proxy_hops: int) -> None:
    """Read and drop the rest of a body of up to SMALL_BYTES; give up after SECONDS."""
    if not trusted_proxy_hops:
        return
    length = get_content_length(environ)
    # A client that waits for 100 Continue sends the body only if it is read.
    if length is None or length > SMALL_BYTES or "HTTP_EXPECT" in environ:
        return
    stream = environ["wsgi.input"]
    with suppress(Timeout, OSError, ParseException), Timeout(SECONDS):
        while stream.read(PIECE_BYTES):
            pass
