"""The table: what was expected, what was found, and by how much they differ."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report import aligned

MOST_DETAILS = 5


@dataclass(frozen=True)
class Row:
    """One promise. `difference` is 0 if it was kept; it adds up deviations, so none cancel out.

    With `at_most`, everything up to `expected` is right. `details` names what differs.
    """

    title: str
    expected: int
    found: int
    difference: int
    at_most: bool = False
    details: Sequence[str] = ()

    def cells(self) -> list[str]:
        """Return the row for the table."""
        limit = "at most " if self.at_most else ""
        return [
            self.title,
            f"{limit}{self.expected:,}",
            f"{self.found:,}",
            f"{self.difference:,}",
            "DIFFERS" if self.difference else "",
        ]


def agree(rows: Sequence[Row]) -> bool:
    """Whether no row differs."""
    return not any(row.difference for row in rows)


def shown(rows: Sequence[Row]) -> str:
    """Return all rows as aligned text."""
    return aligned([["", "expected", "found", "difference", ""], *(row.cells() for row in rows)])


def differing(rows: Sequence[Row]) -> list[str]:
    """Return a line for each differing row and for the first of its details."""
    lines = []
    for row in rows:
        if row.difference:
            lines += [row.title.strip(), *(f"  {detail}" for detail in row.details[:MOST_DETAILS])]
    return lines
