"""Rows of a benchmark: what was measured, beside a peer, printed as a table and kept as JSON."""

import json
from pathlib import Path

from attrs import asdict, frozen
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@frozen
class Row:
    """One figure."""

    figure: str
    value: float
    unit: str
    peer: str = ""
    """What it is compared with."""
    peer_value: float | None = None
    ratio: float | None = None
    """How many times better than the peer: above 1 is better, whichever direction better has."""
    reach: str = ""
    """What was to be reached, or "" when the figure is only printed."""
    met: bool | None = None


def compared(
    figure: str, value: float, unit: str, peer: str, peer_value: float, *, less_is_better: bool
) -> Row:
    """A row with its ratio to the peer."""
    ratio = peer_value / value if less_is_better else value / peer_value
    return Row(figure, value, unit, peer, peer_value, ratio)


def report(name: str, rows: list[Row]) -> None:
    """Print the table and write `results/NAME.json`."""
    table = Table(title=name)
    for column in ("figure", "value", "unit", "peer", "its value", "ratio", "reach", "met"):
        table.add_column(column, justify="right" if column in ("value", "its value", "ratio") else "left")
    for row in rows:
        table.add_row(
            row.figure,
            f"{row.value:,.4g}",
            row.unit,
            row.peer,
            "" if row.peer_value is None else f"{row.peer_value:,.4g}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.reach,
            "" if row.met is None else ("yes" if row.met else "NO"),
        )
    Console(width=140).print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
