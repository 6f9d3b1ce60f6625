"""The documents of the folder `docs/`: their paths on the site, order and text.

The folder is read once. A requested path is only looked up among the documents found then, so it
cannot leave the folder.
"""

import posixpath
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flask import url_for

from promptly.blueprints.docs.markdown import Document, render

INDEX = "README"
SUFFIX = ".md"

# The URL of `make run`; documents for users show this installation's URL in its place.
EXAMPLE_URL = "http://127.0.0.1:8503"
FOR_USERS = re.compile(r"README|api|dashboard|clients/.+")


@dataclass(frozen=True)
class Section:
    """One group of the contents: titles and paths in order."""

    title: str
    pages: tuple[tuple[str, str], ...]


class Library:
    """All documents below a folder, by name: the path without its suffix, as `clients/curl`."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self._folder = folder
        self._base_url = base_url

    @cached_property
    def sources(self) -> dict[str, str]:
        """Markdown of every document, with this installation's URLs."""
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
        """Document name by path on the site, relative to that of the index."""
        return {path_of(name): name for name in self.sources}

    @cached_property
    def contents(self) -> tuple[Section, ...]:
        """Table of contents, from the sections and lists of the index document."""
        sections = []
        for part in re.split(r"^## ", self.sources.get(INDEX, ""), flags=re.MULTILINE)[1:]:
            pages = tuple(
                (title, path_of(name))
                for title, target in re.findall(r"^- \[(.+?)\]\((.+?)\)", part, re.MULTILINE)
                if (name := self._linked(INDEX, target)) is not None
            )
            if pages:
                sections.append(Section(part.splitlines()[0].strip(), pages))
        return tuple(sections)

    def document(self, name: str) -> Document:
        """Render a document."""
        return render(self.sources[name], lambda target: self.resolve(name, target))

    def resolve(self, name: str, target: str) -> str | None:
        """Return the URL of a document's link; None if the site has no such page."""
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return target
        linked = self._linked(name, path)
        if linked is None:
            return None
        return url_for("docs.show", path=path_of(linked)) + mark + anchor

    def _linked(self, name: str, path: str) -> str | None:
        """Return the document that a document links to by a relative path, if there is one."""
        file = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        linked = file.removesuffix(SUFFIX)
        return linked if file.endswith(SUFFIX) and linked in self.sources else None


def path_of(name: str) -> str:
    """Return the path of a document's page; a README is the page of its folder."""
    folder, _, last = name.rpartition("/")
    if last == INDEX:
        return f"{folder}/" if folder else ""
    return name
