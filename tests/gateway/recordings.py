"""Streams of a real llama-server, byte for byte, and what they add up to.

Each was asked for with timings, progress and (but for `no_usage`) usage.
"""

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "streams"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.sse"))


def recording(name: str) -> bytes:
    return (DIRECTORY / f"{name}.sse").read_bytes()


def events(data: bytes) -> list[Any]:
    """The events of a stream, parsed; comments left out, "[DONE]" stays a text."""
    parts = [part for part in data.decode().split("\n\n") if part.startswith("data: ")]
    texts = [part.removeprefix("data: ") for part in parts]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def counts(name: str) -> tuple[int, int]:
    """Prompt and completion tokens as upstream counted them in the end."""
    last = [event for event in events(recording(name)) if "timings" in event][-1]["timings"]
    return last["cache_n"] + last["prompt_n"], last["predicted_n"]
