"""POST /v1/completions: plain text continuation of one or several prompts."""

from promptly.blueprints.v1.answers import Answer
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.gateway.dialects.completions.answer import TextAnswer, TextStream
from promptly.gateway.dialects.completions.request import parse_completion

ENDPOINT = "completions"


def text_completions(request: ApiRequest) -> Answer:
    """Create a completion of OpenAI's legacy API, streamed or not."""
    asked = take_body(request, parse_completion)
    answer_id = f"cmpl-{request.uuid.hex}"
    if asked.stream:
        stream = TextStream(answer_id, logprobs=asked.logprobs, include_usage=asked.include_usage)
        return serve_stream(request, ENDPOINT, asked, stream)
    answer = TextAnswer(answer_id, logprobs=asked.logprobs)
    return serve_whole(request, ENDPOINT, asked, answer)
