"""Client JSON of text completions: checked, reduced to known fields, one body per prompt."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from promptly.errors import InvalidRequest, UnsupportedParameter
from promptly.gateway import json_body, prefix_chain
from promptly.gateway.chat_request import STREAMED, ignored_fields
from promptly.gateway.dialects import texts
from promptly.gateway.dialects.fields import Count, StreamOptions
from promptly.gateway.dialects.sampling import Sampling
from promptly.gateway.generation import MAX_TOKEN_BYTES, Call
from promptly.gateway.json_bounds import Body
from promptly.gateway.prefix_chain import Prefix

MAX_PROMPTS = 128
# OpenAI's default. Plain text has no natural end: without a limit, an answer could use up the
# whole context, and the balance.
DEFAULT_MAX_TOKENS = 16

PromptText = Annotated[str, Meta(min_length=1)]


class CompletionBody(Sampling, kw_only=True):
    """The known fields of a text completion's body."""

    prompt: PromptText | Annotated[list[PromptText], Meta(min_length=1, max_length=MAX_PROMPTS)]
    model: Annotated[str, Meta(max_length=256)] | None = None
    max_tokens: Count | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Other values are refused below; the contract lists only those that are accepted.
    n: Annotated[int, Meta(ge=1, le=128, extra_json_schema={"const": 1})] | None = None
    best_of: Annotated[int, Meta(ge=1, le=128, extra_json_schema={"const": 1})] | None = None
    echo: Annotated[bool, Meta(extra_json_schema={"const": False})] | None = None
    suffix: Annotated[str, Meta(extra_json_schema={"const": ""})] | None = None


# Ignoring these would change the answer.
REFUSED = {
    "grammar": "use 'response_format' of /v1/chat/completions",
    "json_schema": "use 'response_format' of /v1/chat/completions",
    "response_format": "use /v1/chat/completions",
}

_KNOWN = frozenset(CompletionBody.__struct_fields__)


@dataclass(slots=True)
class TextPrompt:
    """One prompt: `text` is JSON, `fields`, shared by all prompts, is JSON without braces."""

    path: ClassVar[str] = "/v1/completions"
    optional: ClassVar[bool] = True
    advice: ClassVar[str] = "Check 'logit_bias' and 'dry_sequence_breakers'."

    text: bytes
    fields: bytes
    param: str
    prefix: Prefix = prefix_chain.EMPTY

    @property
    def prompt_bound(self) -> int:
        """Upper bound of the prompt's size in tokens."""
        return texts.bound(self.text)

    @property
    def fewest_tokens(self) -> int:
        """Lower bound of the prompt's size in tokens; an escape in JSON has at most six bytes."""
        return len(self.text) // (MAX_TOKEN_BYTES * 6)

    def upstream_body(self, max_tokens: int | None, slot: bytes = b"") -> bytes:
        """Build the body for a streamed upstream answer of at most `max_tokens`."""
        limit = b"" if max_tokens is None else b',"max_tokens":%d' % max_tokens
        return b'{"prompt":%b%b%b%b%b' % (self.text, self.fields, limit, slot, STREAMED)

    def drop_text(self) -> None:
        """Free the memory of the text, which upstream has now."""
        self.text = b""

    def count(self, call: Call) -> int:
        """Return the prompt's size in tokens; upstream needs no slot for this."""
        return texts.count(call, self.text)


@dataclass(slots=True)
class TextRequest:
    """A checked request; `logprobs` is how many alternatives to each token are requested."""

    prompts: list[TextPrompt]
    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    logprobs: int | None
    ignored: tuple[str, ...]


def parse_completion(body: Body) -> TextRequest:
    """Check the body of a text completion; raises InvalidRequest naming the field."""
    value = json_body.decode_object(body)
    for name, advice in REFUSED.items():
        if value.get(name) is not None:
            raise UnsupportedParameter(name, advice)
    texts.refuse_token_ids(value, "prompt")
    asked = json_body.check(value, CompletionBody)
    _check_unsupported(asked)
    if asked.stream_options is not None and not asked.stream:
        raise InvalidRequest("'stream_options' needs 'stream': true.", param="stream_options")

    fields: dict[str, Any] = {
        name: item
        for name in Sampling.__struct_fields__
        if (item := getattr(asked, name)) is not None
    }
    if asked.logprobs is not None:
        # With 0 upstream would omit even the chosen token's logprob.
        fields["logprobs"] = max(asked.logprobs, 1)
    shared = json_body.encode(fields)[1:-1]
    shared = b"," + shared if shared else b""
    several = isinstance(asked.prompt, list)
    return TextRequest(
        prompts=[
            TextPrompt(
                text,
                shared,
                f"prompt[{number}]" if several else "prompt",
                prefix_chain.of_text(text),
            )
            for number, text in enumerate(texts.encode(asked.prompt))
        ],
        model=asked.model or "",
        stream=bool(asked.stream),
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        max_tokens=asked.max_tokens or DEFAULT_MAX_TOKENS,
        logprobs=asked.logprobs,
        ignored=ignored_fields(value, _KNOWN),
    )


def _check_unsupported(asked: CompletionBody) -> None:
    for name in ("n", "best_of"):
        if (getattr(asked, name) or 1) > 1:
            raise UnsupportedParameter(name, f"only one answer per prompt, {name} = 1")
    if asked.echo:
        raise UnsupportedParameter("echo", "only the generated text is returned")
    if asked.suffix:
        raise UnsupportedParameter("suffix", "text is only continued, not filled in")
