"""The shipped facts: recorded names, numbers and types of the Kubernetes API, read when first asked for.

The files beside this module are written by `tools/generate_facts.py` from recordings of a real API
server. This loader is the one place that reads them. A *document* is one JSON value; a *table* has one
line a row (`name TAB json`), and only the rows that are asked for are parsed: most programs touch a few
dozen of the 1,800 messages.
"""

import gzip
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import orjson


def read(file: str) -> bytes:
    """The contents of one shipped file, decompressed if its name ends in `.gz`; not cached."""
    content = resources.files(__name__).joinpath(file).read_bytes()
    return gzip.decompress(content) if file.endswith(".gz") else content


@cache
def document(file: str) -> Any:
    """One JSON document. It is shared by all callers: do not change it."""
    return orjson.loads(read(file))


class Table(Mapping[str, Any]):
    """Rows by name; a row is parsed when it is read (its reader keeps what it makes of it)."""

    def __init__(self, content: bytes) -> None:
        self._rows: dict[str, bytes] = {}
        for line in content.splitlines():
            name, _, row = line.partition(b"\t")
            self._rows[name.decode()] = row

    def __getitem__(self, name: str) -> Any:
        return orjson.loads(self._rows[name])

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@cache
def table(file: str) -> Table:
    """One table, with its rows unparsed."""
    return Table(read(file))
