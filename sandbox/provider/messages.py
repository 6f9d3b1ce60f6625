"""Webhook messages, and the rules that decide how they are delivered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

ACTIONS = ("hold", "drop", "delay", "duplicate")


@dataclass(frozen=True, slots=True)
class Signed:
    """A webhook request as it is sent."""

    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Message:
    """One event for one endpoint. ``build`` returns the request of the n-th attempt."""

    id: str
    type: str
    subject: str  # the id of the object it is about
    url: str
    build: Callable[[int], Signed]
    source: str = ""  # the id of the event it reports, if different
    state: str = "waiting"  # waiting, held, dropped, delivered, failed
    attempts: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the fields that tests may see."""
        names = ("id", "type", "subject", "source", "url", "state", "attempts")
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class Rule:
    """A rule for messages whose type matches ``types``; ``times`` None means until cleared.

    "hold" keeps them until released, "drop" discards them, "delay" sends them ``seconds`` late,
    "duplicate" sends ``copies`` of each at the same time.
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
    """The active rules; the first one that matches a message applies."""

    _rules: list[Rule] = field(default_factory=list)

    def add(self, values: Mapping[str, Any]) -> None:
        """Activate a rule.

        Raises ValueError for an unknown name or an invalid value.
        """
        unknown = set(values) - {item.name for item in fields(Rule)}
        if unknown or "action" not in values:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}" if unknown else "no action")
        self._rules.append(Rule(**values))

    def clear(self) -> None:
        """Remove all rules: new messages are delivered normally."""
        self._rules.clear()

    def take(self, message: Message) -> Rule | None:
        """Return the rule that applies to a message, and count it."""
        for rule in self._rules:
            if rule.times != 0 and fnmatchcase(message.type, rule.types):
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None
