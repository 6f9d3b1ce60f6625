"""POST /v1/embeddings: texts as vectors, if a model server supports it."""

from promptly.blueprints.v1.answers import Answer
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.serving import serve_embeddings
from promptly.gateway.dialects.embeddings.request import parse_embeddings

ENDPOINT = "embeddings"


def make_embeddings(request: ApiRequest) -> Answer:
    """Create OpenAI embeddings of one text or a list of texts."""
    return serve_embeddings(request, ENDPOINT, take_body(request, parse_embeddings))
