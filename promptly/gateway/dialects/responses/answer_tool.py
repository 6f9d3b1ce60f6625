"""Answers in a format beside tools.

To llama-server a `response_format` is the grammar of the whole answer: the model could never call a
tool. So the format is offered to the model as one more function, whose call is the answer, and some
call is required. On the way back that call becomes the text again. Text before the calls, which is
in no format, becomes reasoning.
"""

from collections.abc import Collection
from typing import Any

from promptly.errors import PromptlyError, UnsupportedParameter
from promptly.gateway.dialects import Chunk, Sink, StreamedAnswer, WholeAnswer
from promptly.gateway.dialects.responses.body import JsonObject, JsonSchema
from promptly.gateway.dialects.responses.deltas import call_delta
from promptly.gateway.dialects.responses.echo import Echo
from promptly.gateway.dialects.responses.tools import FunctionTool

NAME = "final_answer"
DESCRIPTION = "Give the final answer to the user, once no other tool has to be called before it."


def make_answer_tool(form: JsonObject | JsonSchema, taken: Collection[str]) -> FunctionTool:
    """Return the function that stands for an answer in this format, under a name not taken.

    Raises UnsupportedParameter for a schema of anything but an object.
    """
    name = NAME
    while name in taken:
        name += "_"
    if isinstance(form, JsonObject):
        return FunctionTool("function", name, DESCRIPTION, {"type": "object"})
    if form.schema.get("type") != "object":
        raise UnsupportedParameter(
            "text.format.schema", "beside 'tools' its 'type' must be 'object'"
        )
    described = f"{DESCRIPTION} {form.description}" if form.description else DESCRIPTION
    return FunctionTool("function", name, described, form.schema, form.strict)


class AnswerCalls:
    """Rewrites chunks: the first call of the answer's function as text, all text as reasoning.

    If only the first call is returned, the answer counts as one: there is either it or a call.
    """

    def __init__(self, echo: Echo) -> None:
        self._name = echo.answer_tool
        self._first_call_only = echo.first_call_only
        self._first: int | None = None
        # Upstream's numbers of the calls of this function; the first is the answer.
        self._numbers: list[int] = []

    def rewrite(self, chunk: Chunk) -> Chunk:
        """Return the chunk, or a changed copy."""
        choices: list[Chunk] = chunk.get("choices") or []
        delta = (choices[0].get("delta") or {}) if choices else {}
        if not delta.get("content") and not delta.get("tool_calls"):
            return chunk
        text, others = self._divide(delta.get("tool_calls") or ())
        thought = (delta.get("reasoning_content") or "") + (delta.get("content") or "")
        changed = {"reasoning_content": thought, "content": text, "tool_calls": others}
        # The logprobs are those of the call's tokens, which include its name.
        choice = {**choices[0], "delta": {**delta, **changed}, "logprobs": None}
        return {**chunk, "choices": [choice]}

    def _divide(self, calls: Collection[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
        text, others = "", []
        read = [call_delta(call) for call in calls]
        for call, (number, _, name, arguments) in zip(calls, read, strict=True):
            if self._first is None and name:
                self._first = number
            if self._first_call_only and number != self._first:
                continue
            if name == self._name:
                self._numbers.append(number)
            if number not in self._numbers:
                others.append(call)
            elif number == self._numbers[0]:
                text += arguments
        return text, others


class WholeAnswerByCall:
    """An answer collected from rewritten chunks."""

    def __init__(self, answer: WholeAnswer, echo: Echo) -> None:
        self._answer = answer
        self._calls = AnswerCalls(echo)

    def add(self, chunk: Chunk) -> bytes:
        return self._answer.add(self._calls.rewrite(chunk))

    def build(self) -> dict[str, Any]:
        return self._answer.build()


class StreamedAnswerByCall:
    """A stream of rewritten chunks."""

    def __init__(self, answer: StreamedAnswer, echo: Echo) -> None:
        self._answer = answer
        self._calls = AnswerCalls(echo)

    @property
    def sink(self) -> Sink | None:
        sink, rewrite = self._answer.sink, self._calls.rewrite
        return None if sink is None else lambda chunk: sink(rewrite(chunk))

    def end(self) -> bytes:
        return self._answer.end()

    def failed(self, problem: PromptlyError) -> bytes:
        return self._answer.failed(problem)
