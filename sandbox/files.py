"""Files that a reader sees only complete."""

from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader sees either the old or the new text."""
    partial = path.with_suffix(".part")
    partial.write_text(text)
    partial.rename(path)
