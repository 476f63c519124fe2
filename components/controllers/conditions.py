"""Conditions in a status: find, set and drop them by type. All pure."""

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]


def condition_of(obj: Object, kind: str) -> Object | None:
    """The condition of that type in the object's status."""
    return find_condition((obj.get("status") or {}).get("conditions"), kind)


def find_condition(conditions: Iterable[Object] | None, kind: str) -> Object | None:
    """The condition of that type."""
    for condition in conditions or ():
        if condition.get("type") == kind:
            return condition
    return None


def is_true(obj: Object, kind: str) -> bool:
    """Whether the object's status has that condition with status True."""
    condition = condition_of(obj, kind)
    return condition is not None and condition.get("status") == "True"


def with_condition(conditions: Iterable[Object] | None, new: Object) -> list[Object]:
    """The conditions with `new` in place of the one of its type.

    One that has the same status and reason stays as it is; with the same status it keeps its
    lastTransitionTime. (The rule of workload controllers: a change of message alone is no change.)
    """
    listed = list(conditions or ())
    current = find_condition(listed, new["type"])
    if current is not None and current.get("status") == new["status"]:
        if current.get("reason") == new.get("reason"):
            return listed
        new = {**new, "lastTransitionTime": current.get("lastTransitionTime")}
    return [*without_condition(listed, new["type"]), new]


def without_condition(conditions: Iterable[Object] | None, kind: str) -> list[Object]:
    """The conditions but that of the given type."""
    return [condition for condition in conditions or () if condition.get("type") != kind]
