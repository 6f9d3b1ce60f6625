"""The counts that upstream has reported for one answer so far."""


class Counts:
    """Running counts of one answer, as reported by upstream; they only grow.

    `prompt_tokens` are the prompt's tokens processed so far, `prompt_size` all of them once known;
    `completion_tokens` are those generated, `limit` how many of them the hold covers.
    """

    __slots__ = ("completion_tokens", "first_token_at", "limit", "prompt_size", "prompt_tokens")

    def __init__(self) -> None:
        self.prompt_size: int | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.limit: int | None = None
        self.first_token_at: float | None = None
