"""Whether permissions on ranges cover a range. Sans I/O, no state.

A range is half-open; without an end it goes on for ever. Permissions that touch or overlap count as one:
[a, c) and [c, e) cover [b, d).
"""

from collections.abc import Iterable

from attrs import frozen

from understudy.raftstore.storage import ALL_KEYS_END, Permission


@frozen
class Coverage:
    """What may be read and written, as disjoint ranges (start, end or None), ascending."""

    read: tuple[tuple[bytes, bytes | None], ...] = ()
    write: tuple[tuple[bytes, bytes | None], ...] = ()

    @classmethod
    def of(cls, permissions: Iterable[Permission]) -> "Coverage":
        ranges: dict[str, list[tuple[bytes, bytes | None]]] = {"read": [], "write": []}
        for permission in permissions:
            for kind, found in ranges.items():
                if permission.type in (kind, "readwrite"):
                    found.append(_interval(permission.key, permission.range_end))
        return cls(_united(ranges["read"]), _united(ranges["write"]))


def covers(ranges: tuple[tuple[bytes, bytes | None], ...], key: bytes, range_end: bytes) -> bool:
    """Whether all of a range lies within one of `ranges`. A range that ends before it begins lies nowhere."""
    start, end = _interval(key, range_end)
    if end is not None and end <= start:
        return False
    return any(
        first <= start and (last is None or (end is not None and end <= last)) for first, last in ranges
    )


def _interval(key: bytes, range_end: bytes) -> tuple[bytes, bytes | None]:
    if not range_end:
        return key, key + b"\0"
    return key, None if range_end == ALL_KEYS_END else range_end


def _united(ranges: list[tuple[bytes, bytes | None]]) -> tuple[tuple[bytes, bytes | None], ...]:
    united: list[tuple[bytes, bytes | None]] = []
    for first, last in sorted(ranges, key=lambda found: found[0]):
        if united:
            begun, so_far = united[-1]
            if so_far is None:
                break
            if first <= so_far:
                united[-1] = begun, None if last is None else max(so_far, last)
                continue
        united.append((first, last))
    return tuple(united)
