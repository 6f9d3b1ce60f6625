"""Phrases of a foreign style that must not come back (CONTRIBUTING.md, Language)."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

CODE = ("promptly", "sandbox", "bench", "prove", "scripts", "migrations/env.py", "tests")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "AGENTS.md", "docs", "templates")

# Of docstrings and comments alike.
PROSE = [
    re.compile(r"^(What|Whoever|Whatever|Who)\b(?!.*\?)"),
    re.compile(r"\b(he|him|his)\b", re.IGNORECASE),
    re.compile(r"\bis none of\b|\bthat is none\b|\bis no (id|key|number|address|prompt)\b"),
    re.compile(r"\blets? us in\b"),
    re.compile(r"\bbeside (it|them|the)\b"),
]
TEXT = [
    re.compile(r"\b(he|him|his)\b"),
    re.compile(r"\blets? us in\b|\bunwanted mail\b|\bwaiting for word\b", re.IGNORECASE),
    re.compile(r"\bMake a key\b|\bNo key is good\b|\bTo decide\b|\bLooked at\b"),
]


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield each docstring and each run of comment lines with its line number."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text
    start, end, lines = 0, 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if lines and token.start[0] != end + 1:
                yield start, " ".join(lines)
                lines = []
            start = start if lines else token.start[0]
            end = token.start[0]
            lines.append(token.string.lstrip("# "))
    if lines:
        yield start, " ".join(lines)


def python_files(project: Path) -> list[Path]:
    found = [project / name for name in CODE if (project / name).is_file()]
    for name in CODE:
        found += sorted((project / name).rglob("*.py"))
    return found


def test_docstrings_and_comments(project: Path) -> None:
    found = [
        f"{path.relative_to(project)}:{line}: {text.splitlines()[0][:80]}"
        for path in python_files(project)
        if path != Path(__file__)
        for line, text in prose(path.read_text())
        if any(pattern.search(text) for pattern in PROSE)
    ]
    assert not found, "\n".join(found)


def test_pages_and_documents(project: Path) -> None:
    found = []
    for name in DOCUMENTS:
        root = project / name
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.suffix in {".md", ".html", ".txt"}:
                for line, text in enumerate(path.read_text().splitlines(), start=1):
                    if any(pattern.search(text) for pattern in TEXT):
                        found.append(f"{path.relative_to(project)}:{line}: {text.strip()[:100]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text", ["What it costs so far.", "Whoever has no key.", "He pays.", "Stripe lets us in."]
)
def test_the_patterns_find_foreign_phrases(text: str) -> None:
    assert any(pattern.search(text) for pattern in PROSE)


@pytest.mark.parametrize("text", ["What does it cost?", "Return the history.", "The key is valid."])
def test_the_patterns_leave_good_prose_alone(text: str) -> None:
    assert not any(pattern.search(text) for pattern in PROSE)
