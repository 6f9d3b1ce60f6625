"""POST /v1/completions: plain text continuation of one or several prompts."""

from flask import Response, g

from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.gateway.dialects.completions.answer import TextAnswer, TextStream
from promptly.gateway.dialects.completions.request import parse_completion

ENDPOINT = "completions"


def text_completions() -> Response:
    """Create a completion of OpenAI's legacy API, streamed or not."""
    asked = take_body(parse_completion)
    answer_id = f"cmpl-{g.request_uuid.hex}"
    if asked.stream:
        stream = TextStream(answer_id, logprobs=asked.logprobs, include_usage=asked.include_usage)
        return serve_stream(ENDPOINT, asked, stream)
    return serve_whole(ENDPOINT, asked, TextAnswer(answer_id, logprobs=asked.logprobs))
