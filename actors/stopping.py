"""Ends in order: which of several siblings is stopped when, and how those are named that took too long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cell import Cell

NAMED_MAX = 20
"""So many actors are named in one line of the log; the rest is a number."""


def in_stop_order(siblings: Mapping[str, Cell]) -> list[Cell]:
    """Siblings, given by path in the order in which they were started, in the order of their stops.

    That is the reverse; but whoever `stops_after` others comes directly behind the last of them. There is no
    circle: those others were started before it.
    """
    places: dict[str, int] = {}
    for number, (path, cell) in enumerate(siblings.items()):
        places[path] = number
        if cell.stops_after:
            places[path] = min([number, *(places[other] for other in cell.stops_after if other in places)])
    # Sorting is stable: of those in one place the first started is the one that the others stop after.
    return sorted(siblings.values(), key=lambda cell: -places[cell.path])


def listed(paths: Iterable[str]) -> str:
    """Paths as a line of the log names them."""
    names = list(paths)
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
