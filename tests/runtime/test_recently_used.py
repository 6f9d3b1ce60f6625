"""The bound of the counts that a process keeps itself."""

import pytest

from promptly.runtime import recently_used
from promptly.runtime.recently_used import RecentlyUsed


def test_names_set_least_recently_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recently_used, "MOST_NAMES", 3)
    counts: RecentlyUsed[int] = RecentlyUsed()
    for name in ("a", "b", "c", "a", "d"):
        counts[name] = counts.get(name, 0) + 1
    assert counts == {"c": 1, "a": 2, "d": 1}
