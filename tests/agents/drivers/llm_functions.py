"""The tool of `llm --functions`."""

from pathlib import Path


def write_file(path: str, content: str) -> str:
    """Write a text file."""
    Path(path).write_text(content)
    return f"{len(content)} characters written"
