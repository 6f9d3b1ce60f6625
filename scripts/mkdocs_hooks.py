"""Hooks of the documentation site (mkdocs.yml)."""

import re


def on_page_markdown(markdown: str, **_: object) -> str:
    """Drop the mark of snippets that the tests run: Python-Markdown would not see the fence."""
    return re.sub(r"^(```\w+) run$", r"\1", markdown, flags=re.MULTILINE)
