"""Field types that several dialects share, with their bounds."""

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Natural = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# How many of the last tokens to look at. Upstream allocates memory for as many as are requested:
# for 2**31 it takes 16 GB and half a minute.
Window = Annotated[int, Meta(ge=0, le=65_536)]
Integer = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e9, le=1e9)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]
Temperature = Annotated[float, Meta(ge=0, le=10)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
# A client's own name for a conversation.
SessionName = Annotated[str, Meta(max_length=1024)]
StopWord = Annotated[str, Meta(min_length=1, max_length=1000)]


class StreamOptions(Struct):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None
