"""POST /v1/embeddings: texts as vectors, if a model server supports it."""

from flask import Response

from promptly.blueprints.v1.body import read_body
from promptly.blueprints.v1.serving import serve_embeddings
from promptly.gateway import current_gateway
from promptly.gateway.dialects.embeddings.request import parse_embeddings

ENDPOINT = "embeddings"


def make_embeddings() -> Response:
    """Create OpenAI embeddings of one text or a list of texts."""
    return serve_embeddings(ENDPOINT, parse_embeddings(read_body(current_gateway().settings)))
