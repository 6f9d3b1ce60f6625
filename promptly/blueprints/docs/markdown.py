"""Markdown as the site shows it: headings with anchors, tables that scroll, links that lead on."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token

# A link's target as the document writes it -> where it leads on the site, or None for nowhere.
Resolve = Callable[[str], str | None]

# What is nothing but text stays text: no HTML of a document reaches a page.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True)
class Heading:
    """A section of a document; `anchor` is its id in the page, formed as GitHub forms it."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Document:
    """A rendered document; `title` is its first heading."""

    title: str
    html: str
    headings: tuple[Heading, ...]


def render(source: str, resolve: Resolve) -> Document:
    """Render a document of ours."""
    tokens = _PARSER.parse(source)
    headings = _mark_headings(tokens)
    _turn_links(tokens, resolve)
    html = _PARSER.renderer.render(_framed(tokens), _PARSER.options, {})
    return Document(headings[0].text if headings else "", html, tuple(headings))


def anchor_of(text: str) -> str:
    """The id of a heading with this text, if no other has it."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


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
    """Lead every link to its page; one that leads nowhere on this site is left as its text."""
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
    """Tables and code in frames of their own, which scroll and can be reached by keyboard."""
    framed = []
    for token in tokens:
        if token.type in {"fence", "code_block"}:
            html = f'<pre tabindex="0"><code>{escapeHtml(token.content)}</code></pre>\n'
            framed.append(Token("html_block", "", 0, content=html))
        elif token.type == "table_open":
            opening = '<div class="scroll" tabindex="0">\n'
            framed += [Token("html_block", "", 0, content=opening), token]
        elif token.type == "table_close":
            framed += [token, Token("html_block", "", 0, content="</div>\n")]
        else:
            framed.append(token)
    return framed
