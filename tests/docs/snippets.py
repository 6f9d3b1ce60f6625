"""The fenced blocks of the documents, found by the parser that the site renders them with.

A block is run by the tests if its first line says so: ```` ```bash run ````.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Snippet:
    """One fenced block and where it stands."""

    document: str
    line: int
    language: str
    is_run: bool
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    def check(self) -> None:
        """Raise if it is data and no parser takes it."""
        if self.language == "json":
            json.loads(self.text)
        elif self.language == "yaml":
            assert isinstance(yaml.safe_load(self.text), dict), self


def snippets_of(document: str, markdown: str) -> Iterator[Snippet]:
    """The fenced blocks of a document."""
    for token in MarkdownIt().parse(markdown):
        if token.type == "fence" and token.map is not None:
            language, *words = token.info.split() or [""]
            yield Snippet(document, token.map[0] + 1, language, "run" in words, token.content)


def all_snippets() -> list[Snippet]:
    """Those of the README and of everything below docs/."""
    documents = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    return [
        snippet
        for path in documents
        for snippet in snippets_of(str(path.relative_to(PROJECT)), path.read_text())
    ]
