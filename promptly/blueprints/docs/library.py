"""The documents of the folder `docs/` as pages: their URLs, their order, their text here.

The folder is read once. A path that a client asks for is only ever looked up among the documents
that were found then, so it cannot leave the folder.
"""

import posixpath
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from promptly.blueprints.docs.markdown import Document, render

ROOT = "/docs/"
INDEX = "README"
SUFFIX = ".md"

# Where `make run` serves; documents for users name it, and show this installation's URL instead.
EXAMPLE_URL = "http://127.0.0.1:8503"
FOR_USERS = re.compile(r"README|api|clients/.+")


@dataclass(frozen=True)
class Section:
    """One group of the contents: titles and URLs in their order."""

    title: str
    pages: tuple[tuple[str, str], ...]


class Library:
    """All documents below a folder, by name: their path without its ending, as `clients/curl`."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self._folder = folder
        self._base_url = base_url

    @cached_property
    def sources(self) -> dict[str, str]:
        """The Markdown of every document, with this installation's URLs."""
        found = {}
        for path in sorted(self._folder.rglob(f"*{SUFFIX}")):
            name = path.relative_to(self._folder).with_suffix("").as_posix()
            text = path.read_text(encoding="utf-8")
            if FOR_USERS.fullmatch(name):
                text = text.replace(EXAMPLE_URL, self._base_url)
            found[name] = text
        return found

    @cached_property
    def names(self) -> dict[str, str]:
        """The document that each URL shows."""
        return {url_of(name): name for name in self.sources}

    @cached_property
    def contents(self) -> tuple[Section, ...]:
        """The contents, as the sections and lists of the first document give them."""
        sections = []
        for part in re.split(r"^## ", self.sources.get(INDEX, ""), flags=re.MULTILINE)[1:]:
            pages = tuple(
                (title, url)
                for title, target in re.findall(r"^- \[(.+?)\]\((.+?)\)", part, re.MULTILINE)
                if (url := self.resolve(INDEX, target)) is not None
            )
            if pages:
                sections.append(Section(part.splitlines()[0].strip(), pages))
        return tuple(sections)

    def document(self, name: str) -> Document:
        """A document, rendered."""
        return render(self.sources[name], lambda target: self.resolve(name, target))

    def resolve(self, name: str, target: str) -> str | None:
        """Where a link of a document leads; None if that is no page of the site."""
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return target
        file = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        if not file.endswith(SUFFIX) or file.removesuffix(SUFFIX) not in self.sources:
            return None
        return url_of(file.removesuffix(SUFFIX)) + mark + anchor


def url_of(name: str) -> str:
    """The URL of a document; a README is the page of its folder."""
    folder, _, last = name.rpartition("/")
    if last == INDEX:
        return f"{ROOT}{folder}/" if folder else ROOT
    return ROOT + name
