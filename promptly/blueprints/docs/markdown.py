"""Markdown rendering for the site: heading anchors, tables, code to copy, resolved links."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token

# Maps a link target as written in a document to its URL, or None if the site has no such page.
Resolve = Callable[[str], str | None]

# Raw HTML in a document is shown as text.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True)
class Heading:
    """A heading of a document; `anchor` is its id in the page, in GitHub's form."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Section:
    """The plain text between a heading and the next one, code included."""

    heading: Heading
    text: str


@dataclass(frozen=True)
class Document:
    """A rendered document; `title` is its first heading."""

    title: str
    html: str
    headings: tuple[Heading, ...]
    sections: tuple[Section, ...]


def render(source: str, resolve: Resolve) -> Document:
    """Render a trusted document."""
    tokens = _PARSER.parse(source)
    texts = _texts(tokens)
    headings = _mark_headings(tokens)
    sections = tuple(map(Section, headings, texts))
    _turn_links(tokens, resolve)
    html = _PARSER.renderer.render(_framed(tokens), _PARSER.options, {})
    return Document(headings[0].text if headings else "", html, tuple(headings), sections)


def anchor_of(text: str) -> str:
    """Return the id of a heading with this text, before duplicates are numbered."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _texts(tokens: list[Token]) -> list[str]:
    """Return the plain text below each heading, in order."""
    texts: list[list[str]] = []
    in_heading = False
    for token in tokens:
        if token.type == "heading_open":
            texts.append([])
            in_heading = True
        elif token.type == "heading_close":
            in_heading = False
        elif texts and not in_heading and token.type in {"inline", "fence", "code_block"}:
            words = [child.content or " " for child in token.children or []]
            texts[-1].append("".join(words) or token.content)
    return [" ".join(" ".join(parts).split()) for parts in texts]


def _mark_headings(tokens: list[Token]) -> list[Heading]:
    headings = []
    taken: Counter[str] = Counter()
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        children = inline.children or []
        text = "".join(child.content for child in children)
        anchor = anchor_of(text)
        taken[anchor] += 1
        if taken[anchor] > 1:
            anchor = f"{anchor}-{taken[anchor] - 1}"
        opening.attrSet("id", anchor)
        headings.append(Heading(int(opening.tag[1:]), text, anchor))
        if opening.tag != "h1":
            inline.children = [*children, *_anchor_link(anchor)]
    return headings


def _anchor_link(anchor: str) -> list[Token]:
    attributes: dict[str, str | int | float] = {
        "class": "anchor",
        "href": f"#{anchor}",
        "aria-label": "Link to this section",
    }
    return [
        Token("link_open", "a", 1, attrs=attributes),
        Token("text", "", 0, content="#"),
        Token("link_close", "a", -1),
    ]


def _turn_links(tokens: list[Token], resolve: Resolve) -> None:
    """Point every link to its page; replace links that the site cannot resolve by their text."""
    for token in tokens:
        dropped = False
        for child in token.children or []:
            if child.type == "link_open" and child.attrGet("class") != "anchor":
                target = resolve(str(child.attrGet("href")))
                dropped = target is None
                child.attrSet("href", target or "")
                child.hidden = dropped
            elif child.type == "link_close":
                child.hidden = dropped
                dropped = False


def _framed(tokens: list[Token]) -> list[Token]:
    """Put tables and code into frames that scroll and can be reached by keyboard."""
    framed = []
    samples = 0
    for token in tokens:
        if token.type in {"fence", "code_block"}:
            samples += 1
            html = (
                '<div class="sample"><button class="button secondary small copy" type="button"'
                f' data-copy="#sample-{samples}" hidden>Copy</button>'
                f'<pre tabindex="0" id="sample-{samples}">'
                f"<code>{escapeHtml(token.content)}</code></pre></div>\n"
            )
            framed.append(Token("html_block", "", 0, content=html))
        elif token.type == "table_open":
            opening = '<div class="scroll" tabindex="0">\n'
            framed += [Token("html_block", "", 0, content=opening), token]
        elif token.type == "table_close":
            framed += [token, Token("html_block", "", 0, content="</div>\n")]
        else:
            framed.append(token)
    return framed
