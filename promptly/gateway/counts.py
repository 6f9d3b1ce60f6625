"""What upstream has told about one answer so far."""


class Counts:
    """The running counts of one answer, upstream's own; they only grow.

    `prompt_tokens` is what has been processed of the prompt, `prompt_size` all of it once it is
    known; `completion_tokens` is what has been generated, and `limit` where the hold ends.
    """

    __slots__ = ("completion_tokens", "first_token_at", "limit", "prompt_size", "prompt_tokens")

    def __init__(self) -> None:
        self.prompt_size: int | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.limit: int | None = None
        self.first_token_at: float | None = None
