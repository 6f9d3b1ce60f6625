"""The customers' documents of the folder `docs/`: their paths on the site, order and text.

The operators' documents and the decisions lie in the same folder but are not on the site, where
customers would take them for theirs. The folder is read once. A requested path is only looked up
among the documents found then, so it cannot leave the folder.
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

# The URL of `make run`; the site shows this installation's URL in its place.
EXAMPLE_URL = "http://127.0.0.1:8503"
NOT_FOR_CUSTOMERS = ("operating/", "adr/", "scaling", "performance")


@dataclass(frozen=True)
class Group:
    """One group of the contents: titles and paths in order."""

    title: str
    pages: tuple[tuple[str, str], ...]


class Library:
    """All customers' documents, by name: the path without its suffix, as `clients/curl`."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self._folder = folder
        self._base_url = base_url
        self._documents: dict[str, Document] = {}

    @cached_property
    def sources(self) -> dict[str, str]:
        """Markdown of every document, with this installation's URLs."""
        found = {}
        for path in sorted(self._folder.rglob(f"*{SUFFIX}")):
            name = path.relative_to(self._folder).with_suffix("").as_posix()
            if not name.startswith(NOT_FOR_CUSTOMERS):
                text = path.read_text(encoding="utf-8")
                found[name] = text.replace(EXAMPLE_URL, self._base_url)
        return found

    @cached_property
    def names(self) -> dict[str, str]:
        """Document name by path on the site, relative to that of the index."""
        return {path_of(name): name for name in self.sources}

    @cached_property
    def contents(self) -> tuple[Group, ...]:
        """Table of contents, from the sections and lists of the index document."""
        groups = []
        for part in re.split(r"^## ", self.sources.get(INDEX, ""), flags=re.MULTILINE)[1:]:
            pages = tuple(
                (title, path_of(name))
                for title, target in re.findall(r"^- \[(.+?)\]\((.+?)\)", part, re.MULTILINE)
                if (name := self._linked(INDEX, target)) is not None
            )
            if pages:
                groups.append(Group(part.splitlines()[0].strip(), pages))
        return tuple(groups)

    @cached_property
    def titles(self) -> dict[str, str]:
        """Title by path, in the order of the contents; the index comes first."""
        return {"": "Overview", **{path: t for group in self.contents for t, path in group.pages}}

    def neighbours(self, path: str) -> tuple[str | None, str | None]:
        """Return the paths of the documents before and after one; None at either end."""
        paths = [None, *self.titles, None]
        position = paths.index(path)
        return paths[position - 1], paths[position + 1]

    def document(self, path: str) -> Document:
        """Return the document at a path, rendered once per process."""
        if path not in self._documents:
            name = self.names[path]
            self._documents[path] = render(
                self.sources[name], lambda target: self.resolve(name, target)
            )
        return self._documents[path]

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
