"""Search in the documentation: the sections that contain every word of a query."""

import time
from dataclasses import dataclass

from promptly.blueprints.docs.library import Library

MAX_LENGTH = 100
MAX_HITS = 20
EXCERPT_LENGTH = 200
# A word in a section's heading weighs as much as this many in its text.
HEADING_WEIGHT = 10


@dataclass(frozen=True)
class Hit:
    """A section: the document's path and title, the section's heading and anchor."""

    path: str
    title: str
    heading: str
    anchor: str
    excerpt: str


def search(library: Library, query: str) -> list[Hit]:
    """Return up to MAX_HITS sections, best first; none for a query without words."""
    words = query[:MAX_LENGTH].casefold().split()
    found: list[tuple[int, Hit]] = []
    for path, title in library.titles.items() if words else ():
        # The first search renders every document; let the worker's streams run in between.
        time.sleep(0)
        for section in library.document(path).sections:
            heading, text = section.heading.text.casefold(), section.text.casefold()
            counts = [HEADING_WEIGHT * heading.count(word) + text.count(word) for word in words]
            if all(counts):
                excerpt = _excerpt(section.text, text.find(words[0]))
                hit = Hit(path, title, section.heading.text, section.heading.anchor, excerpt)
                found.append((sum(counts), hit))
    found.sort(key=lambda pair: -pair[0])
    return [hit for _, hit in found[:MAX_HITS]]


def _excerpt(text: str, position: int) -> str:
    """Return the part of a text around a position, cut at words."""
    start = max(position - EXCERPT_LENGTH // 4, 0)
    start = text.rfind(" ", 0, start) + 1
    part = text[start : start + EXCERPT_LENGTH]
    if start + EXCERPT_LENGTH < len(text):
        part = f"{part.rpartition(' ')[0]} …"
    return f"… {part}" if start else part
