"""The state that a stand-in keeps across restarts: one JSON file, replaced atomically."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson


def load(file: Path | None) -> dict[str, Any]:
    """Return the saved state, or {} if there is none or it cannot be read."""
    if file is None:
        return {}
    try:
        value = orjson.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class Keeper:
    """Saves the state after possible changes; without a file it does nothing."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._touched = threading.Event()

    def touch(self) -> None:
        """Note that the state may have changed."""
        self._touched.set()

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save the state if it was touched; the caller must prevent concurrent changes."""
        if self._file is None or not self._touched.is_set():
            return
        self._touched.clear()
        partial = self._file.with_suffix(".part")
        partial.touch(mode=0o600)
        partial.write_bytes(orjson.dumps(state()))
        partial.rename(self._file)
