"""Webhook messages, and the rules that say what happens to them on their way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

ACTIONS = ("hold", "drop", "delay", "duplicate")


@dataclass(frozen=True, slots=True)
class Signed:
    """A webhook request as it goes out."""

    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Message:
    """One event for one endpoint. ``build`` makes the request of the n-th attempt."""

    id: str
    type: str
    subject: str  # the id of the object it is about
    url: str
    build: Callable[[int], Signed]
    source: str = ""  # the id of the event it tells of, where that is another
    state: str = "waiting"  # waiting, held, dropped, delivered, failed
    attempts: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return what a test may know of it."""
        names = ("id", "type", "subject", "source", "url", "state", "attempts")
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class Rule:
    """What happens to messages whose type matches ``types``; ``times`` None until cleared.

    "hold" keeps them until they are released, "drop" loses them, "delay" sends them ``seconds``
    late, "duplicate" sends ``copies`` of each at the same time.
    """

    action: str
    types: str = "*"
    times: int | None = None
    seconds: float = 0.0
    copies: int = 2

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}")


@dataclass(slots=True)
class Rules:
    """The rules in force; the first one that matches a message decides."""

    _rules: list[Rule] = field(default_factory=list)

    def add(self, values: Mapping[str, Any]) -> None:
        """Put a rule in force.

        Raises ValueError for a name or value that a rule does not have.
        """
        unknown = set(values) - {item.name for item in fields(Rule)}
        if unknown or "action" not in values:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}" if unknown else "no action")
        self._rules.append(Rule(**values))

    def clear(self) -> None:
        """Deliver everything again."""
        self._rules.clear()

    def take(self, message: Message) -> Rule | None:
        """Return the rule for a message, having counted it."""
        for rule in self._rules:
            if rule.times != 0 and fnmatchcase(message.type, rule.types):
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None
