import pytest

from promptly.blueprints.docs.markdown import anchor_of, render


def resolve(target: str) -> str | None:
    return {"there.md": "/docs/there", "#here": "#here"}.get(target)


@pytest.mark.parametrize(
    ("text", "anchor"),
    [
        ("Time limits", "time-limits"),
        ("Errors, and what it cost", "errors-and-what-it-cost"),
        ("`GET /v1/models`", "get-v1models"),
        ("ADR 2: holds_and functions", "adr-2-holds_and-functions"),
    ],
)
def test_anchors_are_those_of_github(text: str, anchor: str) -> None:
    assert anchor_of(text) == anchor


def test_headings_can_be_linked_to() -> None:
    document = render("# The page\n\n## Limits\n\n## Limits\n\n### `code` here\n", resolve)
    assert document.title == "The page"
    assert [heading.anchor for heading in document.headings] == [
        "the-page", "limits", "limits-1", "code-here",
    ]  # fmt: skip
    assert '<h2 id="limits-1">Limits<a class="anchor" href="#limits-1"' in document.html
    assert '<h1 id="the-page">The page</h1>' in document.html


def test_links_lead_to_pages_or_are_left_as_text() -> None:
    html = render("[a](there.md), [b *c*](../gone.md), [d](#here)", resolve).html
    assert html == ('<p><a href="/docs/there">a</a>, b <em>c</em>, <a href="#here">d</a></p>\n')


def test_nothing_of_a_document_becomes_markup() -> None:
    html = render("<script>x</script> <b>\n\n```html run\n<i>&\n```\n", resolve).html
    assert "<script>" not in html and "<b>" not in html and "<i>" not in html
    assert '<pre tabindex="0" id="sample-1"><code>&lt;i&gt;&amp;\n</code></pre>' in html


def test_tables_scroll_by_themselves() -> None:
    html = render("| a | b |\n|---|---|\n| `1` | 2 |\n", resolve).html
    assert html.startswith('<div class="scroll" tabindex="0">\n<table>')
    assert html.endswith("</table>\n</div>\n")


def test_sections_are_the_plain_text_below_each_heading() -> None:
    first = "# The page\n\nA *first*\nline.\n\n"
    second = "## `GET /x`\n\n- one\n- [two](gone.md)\n\n```json\n{}\n```\n"
    sections = render(first + second, resolve).sections
    assert [(section.heading.text, section.text) for section in sections] == [
        ("The page", "A first line."),
        ("GET /x", "one two {}"),
    ]
