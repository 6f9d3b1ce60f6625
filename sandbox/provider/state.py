"""What a stand-in remembers over a restart: one JSON file, written in one step."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson


def load(file: Path | None) -> dict[str, Any]:
    """Return what was kept, or nothing if there is none or it cannot be read."""
    if file is None:
        return {}
    try:
        value = orjson.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class Keeper:
    """Writes the state once something may have changed it; without a file it does nothing."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._touched = threading.Event()

    def touch(self) -> None:
        """Note that the state may have changed."""
        self._touched.set()

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep the state if it was touched; the caller sees to it that nobody changes it now."""
        if self._file is None or not self._touched.is_set():
            return
        self._touched.clear()
        partial = self._file.with_suffix(".part")
        partial.touch(mode=0o600)
        partial.write_bytes(orjson.dumps(state()))
        partial.rename(self._file)
