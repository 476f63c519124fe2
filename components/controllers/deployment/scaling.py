"""How many replicas each ReplicaSet of a Deployment may have. All pure.

Rolling updates keep the number of pods at or under replicas + maxSurge and the number of available ones at
or over replicas - maxUnavailable. When a Deployment is scaled in the middle of a rollout, what is added or
taken is shared out in proportion to the sizes.
"""

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from understudy.components.controllers.deployment.replica_sets import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    active_only,
    available_of,
    by_age,
    integer_annotation,
    replicas_of,
)
from understudy.components.controllers.intstr import rounded, scaled
from understudy.components.controllers.timestamps import created_at

Object = dict[str, Any]


@frozen
class Scale:
    """One ReplicaSet is to have so many replicas."""

    replica_set: Object
    replicas: int


def is_rolling(deployment: Object) -> bool:
    """Whether its strategy is RollingUpdate."""
    strategy = deployment["spec"].get("strategy") or {}
    return str(strategy.get("type", "RollingUpdate")) == "RollingUpdate"


def fenceposts(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; surge is rounded up, unavailable down, and both are never 0."""
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    wanted = replicas_of(deployment)
    surge = scaled(rolling.get("maxSurge"), wanted, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable"), wanted, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1  # else nothing could ever move
    return surge, unavailable


def max_surge(deployment: Object) -> int:
    """Pods that may exist above the wanted number."""
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Object) -> int:
    """Pods that may be missing of the wanted number."""
    wanted = replicas_of(deployment)
    if not is_rolling(deployment) or wanted == 0:
        return 0
    return min(wanted, fenceposts(deployment)[1])


def new_replicas(deployment: Object, all_sets: Sequence[Object], current: int) -> int:
    """The replicas of the new ReplicaSet, which has `current` (counted in `all_sets`) now."""
    wanted = replicas_of(deployment)
    if not is_rolling(deployment):
        return wanted
    room = wanted + fenceposts(deployment)[0] - sum(map(replicas_of, all_sets))
    if room <= 0:
        return current
    return current + min(room, wanted - current)


def is_scaling_event(deployment: Object, all_sets: Sequence[Object]) -> bool:
    """Whether the wanted number has changed since the ReplicaSets were last sized."""
    for replica_set in active_only(all_sets):
        desired = integer_annotation(replica_set, DESIRED_REPLICAS)
        if desired is not None and desired != replicas_of(deployment):
            return True
    return False


def is_saturated(deployment: Object, new: Object | None) -> bool:
    """Whether the new ReplicaSet has everything that is wanted, all available."""
    if new is None:
        return False
    wanted = replicas_of(deployment)
    return (
        replicas_of(new) == wanted
        and available_of(new) == wanted
        and integer_annotation(new, DESIRED_REPLICAS) == wanted
    )


def proportional_scales(deployment: Object, new: Object | None, old: Sequence[Object]) -> list[Scale]:
    """The sizes after the wanted number has changed, or while the Deployment is paused.

    A single active ReplicaSet gets it all. A saturated new one empties the old ones. Otherwise, for rolling
    updates, all active ones share in proportion; also those that keep their size are listed, since their
    annotations must tell the new number.
    """
    wanted = replicas_of(deployment)
    single = _active_or_latest(new, old)
    if single is not None:
        return [] if replicas_of(single) == wanted else [Scale(single, wanted)]
    if is_saturated(deployment, new):
        return [Scale(rs, 0) for rs in active_only(old)]
    if not is_rolling(deployment):
        return []
    sets = active_only([*old, new] if new is not None else old)
    allowed = wanted + max_surge(deployment) if wanted > 0 else 0
    to_add = allowed - sum(map(replicas_of, sets))
    sets = _newest_of_largest_first(sets) if to_add > 0 else _oldest_of_largest_first(sets)
    added = 0
    sizes: list[int] = []
    for replica_set in sets:
        share = _share(replica_set, deployment, to_add, added)
        sizes.append(replicas_of(replica_set) + share)
        added += share
    if sizes and to_add != 0:
        sizes[0] = max(0, sizes[0] + to_add - added)
    return [Scale(rs, size) for rs, size in zip(sets, sizes, strict=True)]


def _active_or_latest(new: Object | None, old: Sequence[Object]) -> Object | None:
    active = active_only([*old, new] if new is not None else old)
    if not active:
        if new is not None:
            return new
        return by_age(old)[-1] if old else None
    return active[0] if len(active) == 1 else None


def _newest_of_largest_first(sets: Sequence[Object]) -> list[Object]:
    newest_first = sorted(sets, key=lambda rs: (created_at(rs), rs["metadata"]["name"]), reverse=True)
    return sorted(newest_first, key=replicas_of, reverse=True)


def _oldest_of_largest_first(sets: Sequence[Object]) -> list[Object]:
    return sorted(by_age(sets), key=replicas_of, reverse=True)


def _share(replica_set: Object, deployment: Object, to_add: int, added: int) -> int:
    """The part of `to_add` that falls to one ReplicaSet, of which `added` is given away already."""
    size = replicas_of(replica_set)
    if size == 0 or to_add == 0 or to_add == added:
        return 0
    allowed = to_add - added
    fraction = _fraction(replica_set, deployment)
    return min(fraction, allowed) if to_add > 0 else max(fraction, allowed)


def _fraction(replica_set: Object, deployment: Object) -> int:
    size, wanted = replicas_of(replica_set), replicas_of(deployment)
    if wanted == 0:
        return -size
    before = integer_annotation(replica_set, MAX_REPLICAS)
    if not before:
        before = int((deployment.get("status") or {}).get("replicas", 0))
    if not before:
        return 0
    return rounded(size * (wanted + max_surge(deployment)) / before) - size


def old_scales(deployment: Object, new: Object, old: Sequence[Object]) -> list[Scale]:
    """What a rolling update takes from the old ReplicaSets now, keeping enough pods available.

    Unhealthy replicas go first: they hold up the rollout and serve nobody.
    """
    active = active_only(old)
    if not active:
        return []
    floor = replicas_of(deployment) - max_unavailable(deployment)
    total = sum(map(replicas_of, active)) + replicas_of(new)
    new_unavailable = replicas_of(new) - available_of(new)
    budget = total - floor - new_unavailable
    if budget <= 0:
        return []
    sizes = {rs["metadata"]["name"]: replicas_of(rs) for rs in active}
    taken = 0
    for replica_set in by_age(active):
        unhealthy = replicas_of(replica_set) - available_of(replica_set)
        count = min(budget - taken, unhealthy)
        if count > 0:
            sizes[replica_set["metadata"]["name"]] -= count
            taken += count
    spare = sum(map(available_of, active)) + available_of(new) - floor
    for replica_set in by_age(active):
        if spare <= 0:
            break
        name = replica_set["metadata"]["name"]
        count = min(sizes[name], spare)
        sizes[name] -= count
        spare -= count
    return [
        Scale(rs, sizes[rs["metadata"]["name"]])
        for rs in by_age(active)
        if sizes[rs["metadata"]["name"]] != replicas_of(rs)
    ]
