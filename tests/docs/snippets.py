"""The fenced blocks of the documents, found by the parser that also renders the site.

The tests run a block if its info string says so: ```` ```bash run ````.
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
    """One fenced block and its location."""

    document: str
    line: int
    language: str
    is_run: bool
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    def check(self) -> None:
        """Raise if the block is JSON or YAML and cannot be parsed."""
        if self.language == "json":
            json.loads(self.text)
        elif self.language == "yaml":
            assert isinstance(yaml.safe_load(self.text), (dict, list)), self


def snippets_of(document: str, markdown: str) -> Iterator[Snippet]:
    """Yield the fenced blocks of a document."""
    for token in MarkdownIt().parse(markdown):
        if token.type == "fence" and token.map is not None:
            language, *words = token.info.split() or [""]
            yield Snippet(document, token.map[0] + 1, language, "run" in words, token.content)


def all_snippets() -> list[Snippet]:
    """Return the blocks of the README and of all documents below docs/."""
    documents = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    return [
        snippet
        for path in documents
        for snippet in snippets_of(str(path.relative_to(PROJECT)), path.read_text())
    ]
