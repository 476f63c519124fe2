"""The first step of a deletion: to mark the object, or to let it go.

Rules: the API conventions on finalizers and graceful deletion. Which finalizers the caller's propagation
policy adds is the API server's part.
"""

from datetime import datetime, timedelta
from typing import Any

from attrs import frozen

from understudy.components.machinery.strategy import Strategy

Object = dict[str, Any]

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@frozen
class Deletion:
    """What to do with an object that somebody wants deleted."""

    obj: Object
    """The object with its deletion marked; a copy when anything changed in it."""
    waits: bool
    """It stays until its grace period is over (a later deletion with period 0)."""
    changed: bool
    """The marked object must be stored if it stays."""


def begin_deletion(strategy: Strategy, obj: Object, grace_period_seconds: int | None, now: str) -> Deletion:
    """Mark the object as being deleted. `now` is RFC 3339 with seconds; the asked period may be None.

    An object that stays because of finalizers must be marked too: see `mark_deleted`.
    """
    metadata = obj["metadata"]
    if grace_period_seconds is not None and grace_period_seconds < 0:
        grace_period_seconds = 1
    if metadata.get("deletionTimestamp"):
        return _again(obj, grace_period_seconds)
    period = strategy.grace_period(obj, grace_period_seconds)
    if period is None:
        if metadata.get("finalizers"):
            return Deletion(mark_deleted(obj, now), waits=False, changed=True)
        return Deletion(obj, waits=False, changed=False)
    return Deletion(_marked(obj, now, period), waits=period > 0, changed=True)


def mark_deleted(obj: Object, now: str) -> Object:
    """A copy of the object marked as deleted now, for kinds without grace whose finalizers hold it."""
    if obj["metadata"].get("deletionTimestamp"):
        return {**obj, "metadata": {**obj["metadata"], "deletionGracePeriodSeconds": 0}}
    return _marked(obj, now, 0)


def _again(obj: Object, asked: int | None) -> Deletion:
    metadata = obj["metadata"]
    held = metadata.get("deletionGracePeriodSeconds")
    if held is None or held == 0:
        return Deletion(obj, waits=False, changed=False)
    if asked is None or asked >= held:
        return Deletion(obj, waits=True, changed=False)
    sooner = _later(metadata["deletionTimestamp"], asked - held)
    marks = {"deletionTimestamp": sooner, "deletionGracePeriodSeconds": asked}
    return Deletion({**obj, "metadata": {**metadata, **marks}}, waits=asked > 0, changed=True)


def _marked(obj: Object, now: str, period: int) -> Object:
    metadata = {**obj["metadata"]}
    metadata["deletionTimestamp"] = _later(now, period)
    metadata["deletionGracePeriodSeconds"] = period
    if metadata.get("generation", 0) > 0:
        metadata["generation"] += 1
    return {**obj, "metadata": metadata}


def _later(time: str, seconds: int) -> str:
    return (datetime.strptime(time, _TIME) + timedelta(seconds=seconds)).strftime(_TIME)
