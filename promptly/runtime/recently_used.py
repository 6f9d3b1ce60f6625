"""Bounded memory for limits counted in this process, whatever names clients bring."""

from collections import OrderedDict
from typing import TypeVar

MOST_NAMES = 10_000

Value = TypeVar("Value")


class RecentlyUsed(OrderedDict[str, Value]):
    """A mapping of at most MOST_NAMES names; forgets those set least recently."""

    def __setitem__(self, name: str, value: Value) -> None:
        super().__setitem__(name, value)
        self.move_to_end(name)
        while len(self) > MOST_NAMES:
            self.popitem(last=False)
