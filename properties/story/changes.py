"""What is different between two states of an object, in words short enough for one line."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from understudy.components.machinery.api import Object

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+$|[0-9a-f]*:[0-9a-f:]+$")
_BOOKKEEPING = frozenset(
    [
        "apiVersion",
        "kind",
        "managedFields",
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "generation",
        "selfLink",
    ]
)
_LIST_KEYS = ("type", "name", "containerPort", "key", "ip", "uid")
"""What tells the items of a list apart, where they have it; else their position does."""

Path = tuple[str, ...]


def changes(old: Object | None, new: Object) -> list[str]:
    """`phase=Running`, `Ready=True`, `-nodeName`: what is new, different or gone.

    Times and bookkeeping are left out. First comes what people look for (phase, reasons) and what was made
    up for this object (addresses, node ports), then what is nearest to the top.
    """
    before = dict(_leaves(old)) if old is not None else {}
    after = dict(_leaves(new))
    found = [(path, value) for path, value in after.items() if before.get(path, _ABSENT) != value]
    gone = [path for path in before if path not in after]
    found.sort(key=lambda item: (not _looked_for(item[0], item[1]), _depth(item[0])))
    said: dict[str, None] = {}
    for path, value in found:
        phrase = _phrase(path, value)
        if phrase:
            said[phrase] = None
    for path in gone:
        name = _name(path)
        if name and not any(_name(other) == name for other, _ in found):
            said[f"-{name}"] = None
    return list(said)


def summary(phrases: Sequence[str], most: int = 6) -> str:
    """The first phrases, and how many more there are."""
    text = ", ".join(phrases[:most])
    return f"{text} and {len(phrases) - most} more" if len(phrases) > most else text


_ABSENT = object()


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if not (len(path) <= 1 and key in _BOOKKEEPING and (not path or path == ("metadata",))):
                yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _leaves(item, (*path, f"[{_list_key(item, position)}]"))
    elif value is None or (isinstance(value, str) and _TIME.match(value)):
        return
    elif path and path[-2:-1] == (f"[{value}]",):
        return  # What tells the item of a list apart is in its name already.
    else:
        yield path, value


def _list_key(item: Any, position: int) -> str:
    if isinstance(item, dict):
        for key in _LIST_KEYS:
            if isinstance(item.get(key), str | int):
                return str(item[key])
    return str(position)


def _looked_for(path: Path, value: Any) -> bool:
    if path[-1] == "reason":
        return "state" in path
    return path[-1] in ("nodePort", "phase") or (isinstance(value, str) and bool(_ADDRESS.match(value)))


def _depth(path: Path) -> int:
    return sum(not part.startswith("[") for part in path)


def _phrase(path: Path, value: Any) -> str:
    name = _name(path)
    if not name:
        return ""
    if isinstance(value, bool):
        value = str(value).lower()
    text = " ".join(str(value).split())
    return f"{name}={text if len(text) <= 48 else text[:45] + '...'}"


def _name(path: Path) -> str:
    """The end of a path that says enough: `status.containerStatuses[web].ready` is `web.ready`."""
    if "conditions" in path:
        at = path.index("conditions")
        if len(path) == at + 3 and path[-1] == "status":
            return path[at + 1].strip("[]")
        return ""
    words = [part for part in path if part not in ("spec", "status", "metadata")]
    if not words or words[-1] in ("observedGeneration", "uid") or "ownerReferences" in words:
        return ""
    if words[-1].startswith("["):
        # A list of plain values: the list's own name.
        words = [word for word in words if not word.startswith("[")]
        return words[-1] if words else ""
    item = next((word.strip("[]") for word in reversed(words) if word.startswith("[")), "")
    named = words[-1]
    if len(words) > 1 and words[-2] in ("labels", "annotations", "capacity", "limits", "lastState"):
        named = f"{words[-2]}.{named}"
    # A position says nothing about an item.
    return f"{item}.{named}" if item and not item.isdigit() else named
