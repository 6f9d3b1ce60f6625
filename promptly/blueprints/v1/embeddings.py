"""POST /v1/embeddings: texts as vectors, if a model server supports it."""

from flask import Response

from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.serving import serve_embeddings
from promptly.gateway.dialects.embeddings.request import parse_embeddings

ENDPOINT = "embeddings"


def make_embeddings() -> Response:
    """Create OpenAI embeddings of one text or a list of texts."""
    return serve_embeddings(ENDPOINT, take_body(parse_embeddings))
