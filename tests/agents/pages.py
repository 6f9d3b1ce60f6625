"""The configuration of each program, as its page in docs/clients shows it."""

import re
from dataclasses import dataclass
from pathlib import Path

from promptly.blueprints.docs.library import EXAMPLE_URL
from tests.docs.snippets import PROJECT, snippets_of

KEY = "sk-…"
EXPORT = re.compile(r"export (\w+)=(\S+)")


@dataclass(frozen=True)
class Page:
    """A page of docs/clients, with the URL and the key that its reader would fill in."""

    name: str
    url: str
    key: str

    def blocks(self, language: str) -> list[str]:
        """Return the fenced blocks of a language."""
        text = (PROJECT / "docs" / "clients" / self.name).read_text()
        return [
            snippet.text.replace(EXAMPLE_URL, self.url).replace(KEY, self.key)
            for snippet in snippets_of(self.name, text)
            if snippet.language == language
        ]

    def lines(self, language: str) -> list[str]:
        """Return the lines of all blocks of a language."""
        return [line for block in self.blocks(language) for line in block.splitlines()]

    def exports(self) -> dict[str, str]:
        """Return the variables that the page's bash blocks export."""
        matches = filter(None, map(EXPORT.match, self.lines("bash")))
        return {found[1]: found[2] for found in matches}

    def write(self, folder: Path, files: dict[str, tuple[str, int]]) -> None:
        """Write blocks to files below `folder`: each path with its language and number."""
        for name, (language, number) in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.blocks(language)[number])
