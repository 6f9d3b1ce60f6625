"""Streams recorded byte for byte from a real llama-server, and their counts.

Each was requested with timings, progress and (except `no_usage`) usage.
"""

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "streams"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.sse"))


def recording(name: str) -> bytes:
    return (DIRECTORY / f"{name}.sse").read_bytes()


def events(data: bytes) -> list[Any]:
    """Parse a stream's events without comments; "[DONE]" stays a string."""
    parts = [part for part in data.decode().split("\n\n") if part.startswith("data: ")]
    texts = [part.removeprefix("data: ") for part in parts]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def counts(name: str) -> tuple[int, int]:
    """Return upstream's final counts of prompt and completion tokens."""
    last = [event for event in events(recording(name)) if "timings" in event][-1]["timings"]
    return last["cache_n"] + last["prompt_n"], last["predicted_n"]
