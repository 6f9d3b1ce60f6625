"""Scripted conversations: the simulated model says given texts and calls given tools.

A script applies to requests with its marker in a message. Its step is the number of tool-calling
answers behind the last message with the marker, so a client gets the next step when it sends the
results of the calls, the same step when it retries, and the default answer when all steps are done.
The marker also selects between several scripts: the one marked last in the conversation applies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sandbox.llama.prompt import Body, text_of


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool. ``arguments`` is an object, or a string to send as it is."""

    name: str
    arguments: dict[str, Any] | str

    def text(self) -> str:
        """Return the arguments as the text that the client receives."""
        if isinstance(self.arguments, str):
            return self.arguments
        return orjson.dumps(self.arguments).decode()


@dataclass(frozen=True, slots=True)
class Step:
    """One answer: a text, calls of tools, or a text and then calls."""

    say: str = ""
    calls: tuple[Call, ...] = ()

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Step":
        """Build a step from ``{"say": TEXT, "calls": [{"name": ..., "arguments": ...}]}``.

        Raises ValueError, TypeError or KeyError for anything else.
        """
        if not given or set(given) - {"say", "calls"}:
            raise ValueError(f"not a step: {given}")
        calls = [Call(call["name"], call["arguments"]) for call in given.get("calls", ())]
        return cls(str(given.get("say", "")), tuple(calls))

    def offered(self, body: Body) -> "Step":
        """Return the step as a request allows it.

        A client often sends another request without tools, for a title: such a request gets the
        text alone. If the request offers tools but not those of the step, the text says so.
        """
        if not self.calls or body.get("tool_choice") == "none":
            return Step(self.say)
        names = {tool["function"].get("name") for tool in body.get("tools") or []}
        missing = [call.name for call in self.calls if call.name not in names]
        if not names or not missing:
            return self if names else Step(self.say)
        return Step(
            f"{' and '.join(missing)} not offered, only {', '.join(sorted(map(str, names)))}"
        )


@dataclass(frozen=True, slots=True)
class Script:
    """The steps of a conversation with ``marker`` in one of its messages."""

    marker: str
    steps: Sequence[Step]

    def place(self, messages: list[dict[str, Any]]) -> int:
        """Return the index of the last message with the marker, -1 if there is none."""
        for index in range(len(messages) - 1, -1, -1):
            message = messages[index]
            if message.get("role") == "user" and self.marker in text_of(message.get("content")):
                return index
        return -1


def say(text: str) -> dict[str, Any]:
    """Return a step that says a text, in the form of the control route."""
    return {"say": text}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """Return a step that calls a tool, in the form of the control route."""
    return {"calls": [{"name": name, "arguments": arguments}]}


class Scripts:
    """All scripts of a server, by marker."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}

    def set(self, given: Mapping[str, Any]) -> None:
        """Set the steps of a marker: ``{"marker": TEXT, "steps": [...]}``; no steps remove it.

        Raises ValueError, TypeError or KeyError for anything else.
        """
        marker = str(given["marker"])
        if not marker:
            raise ValueError("an empty marker")
        self._scripts[marker] = Script(marker, [Step.parse(step) for step in given["steps"]])

    def clear(self) -> None:
        self._scripts.clear()

    def step(self, body: Body) -> Step | None:
        """Return the step that answers a validated chat request; None for the default answer."""
        messages = body.get("messages")
        if not self._scripts or not messages:
            return None
        place, script = max(
            ((script.place(messages), script) for script in self._scripts.values()),
            key=lambda found: found[0],
        )
        if place < 0:
            return None
        answered = [message for message in messages[place:] if message.get("tool_calls")]
        if len(answered) >= len(script.steps):
            return None
        return script.steps[len(answered)].offered(body)
