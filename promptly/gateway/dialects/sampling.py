"""Sampling parameters of chat and text completions."""

from typing import Annotated

from msgspec import Meta, Struct

from promptly.gateway.dialects.fields import (
    Integer,
    Natural,
    Number,
    Penalty,
    Positive,
    Share,
    StopWord,
    Temperature,
    Window,
)


class Sampling(Struct, omit_defaults=True, kw_only=True):
    """OpenAI's fields and llama.cpp's own; checked, then passed to upstream unchanged."""

    temperature: Temperature | None = None
    top_p: Share | None = None
    stop: StopWord | Annotated[list[StopWord], Meta(max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: (
        Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1024)] | None
    ) = None
    # llama.cpp's own
    top_k: Integer | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    top_n_sigma: Number | None = None
    min_keep: Natural | None = None
    repeat_penalty: Positive | None = None
    repeat_last_n: Window | None = None
    dynatemp_range: Number | None = None
    dynatemp_exponent: Number | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_tau: Number | None = None
    mirostat_eta: Number | None = None
    dry_multiplier: Number | None = None
    dry_base: Number | None = None
    dry_allowed_length: Natural | None = None
    dry_penalty_last_n: Window | None = None
    dry_sequence_breakers: Annotated[list[StopWord], Meta(min_length=1, max_length=64)] | None = (
        None
    )
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
