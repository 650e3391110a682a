"""Tables of measures: what their columns are, and how they are written as Markdown."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """A column of a table, one measure. goal: "low", "high" or "one", the best value."""

    key: str
    heading: str
    decimals: int
    goal: str = "low"


@dataclass(frozen=True)
class Table:
    """A table of means. rows: {name: {key: value or None}}. intervals: likewise, half of the 95 % interval, or none."""

    caption: str
    note: str
    columns: tuple[Column, ...]
    rows: dict[str, dict]
    intervals: dict[str, dict] = field(default_factory=dict)

    def markdown(self) -> str:
        """Return the table with its caption as Markdown."""
        cells = lambda row: " | ".join(shown(row[column.key], column.decimals) for column in self.columns)
        lines = [
            f"{self.caption}{': ' if self.note else ''}{self.note}.",
            "",
            "| | " + " | ".join(column.heading for column in self.columns) + " |",
            "|---" * (len(self.columns) + 1) + "|",
            *(f"| {name} | {cells(row)} |" for name, row in self.rows.items()),
        ]
        return "\n".join(lines)


def shown(value: float | None, decimals: int) -> str:
    """Return a value as it stands in the tables."""
    return "-" if value is None else f"{value:.{decimals}f}"
