"""A response as one object."""

from typing import Any

from promptly.gateway.dialects.responses.output import Output


class ResponsesAnswer(Output):
    """Collects the answer into one response object."""

    def build(self) -> dict[str, Any]:
        """Build the `response` object."""
        self.finish()
        return self.draft.response(self.draft.outcome, self.items)
