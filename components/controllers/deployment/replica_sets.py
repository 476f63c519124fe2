"""The ReplicaSets of a Deployment: which is new, and what they remember in annotations. All pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from understudy.components.client import mutable
from understudy.components.controllers.deployment.template_hash import HASH_LABEL, template_hash
from understudy.components.controllers.equality import semantically_equal
from understudy.components.controllers.ownership import controller_reference
from understudy.components.controllers.timestamps import created_at

Object = dict[str, Any]

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_OF_THE_DEPLOYMENT_ALONE = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
    }
)
REVISION_HISTORY_CHARACTERS_MAX = 2000


def replicas_of(obj: Object) -> int:
    """The replicas that a Deployment or ReplicaSet asks for."""
    return int(obj["spec"].get("replicas", 1))


def available_of(replica_set: Object) -> int:
    """The replicas that are available, as its status says."""
    return int((replica_set.get("status") or {}).get("availableReplicas", 0))


def annotation(obj: Object, name: str) -> str:
    """An annotation, "" when it is absent."""
    return str((obj["metadata"].get("annotations") or {}).get(name, ""))


def integer_annotation(obj: Object, name: str) -> int | None:
    """An annotation that holds a number; None when it is absent or does not."""
    text = annotation(obj, name)
    return int(text) if text.isascii() and text.isdigit() else None


def revision_of(obj: Object) -> int:
    """The revision that its annotation states, 0 without."""
    return integer_annotation(obj, REVISION) or 0


def by_age(replica_sets: Iterable[Object]) -> list[Object]:
    """Oldest first."""
    return sorted(replica_sets, key=lambda rs: (created_at(rs), rs["metadata"]["name"]))


def active_only(replica_sets: Iterable[Object]) -> list[Object]:
    """Those that ask for any replica."""
    return [rs for rs in replica_sets if replicas_of(rs) > 0]


def without_hash(template: Object) -> Object:
    """The template without its hash label."""
    metadata = template.get("metadata") or {}
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != HASH_LABEL}
    return {**template, "metadata": {**metadata, "labels": labels}}


def find_new(deployment: Object, replica_sets: Iterable[Object]) -> Object | None:
    """The oldest ReplicaSet that has the Deployment's pod template."""
    wanted = without_hash(deployment["spec"]["template"])
    for replica_set in by_age(replica_sets):
        if semantically_equal(without_hash(replica_set["spec"]["template"]), wanted):
            return replica_set
    return None


def find_old(replica_sets: Iterable[Object], new: Object | None) -> list[Object]:
    """All others, oldest first."""
    uid = new["metadata"]["uid"] if new is not None else None
    return [rs for rs in by_age(replica_sets) if rs["metadata"]["uid"] != uid]


def next_revision(old: Iterable[Object]) -> int:
    """The revision of the new ReplicaSet: one above the highest of the old ones."""
    return max((revision_of(rs) for rs in old), default=0) + 1


def make_new(deployment: Object, replicas: int, revision: int, max_replicas: int) -> Object:
    """The ReplicaSet for the Deployment's current template."""
    spec, metadata = deployment["spec"], deployment["metadata"]
    hashed = template_hash(
        without_hash(spec["template"]), (deployment.get("status") or {}).get("collisionCount")
    )
    template = mutable(spec["template"])
    template.setdefault("metadata", {}).setdefault("labels", {})[HASH_LABEL] = hashed
    selector = mutable(spec["selector"])
    selector.setdefault("matchLabels", {})[HASH_LABEL] = hashed
    new: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{hashed}",
            "namespace": metadata["namespace"],
            "labels": dict(template["metadata"]["labels"]),
            "ownerReferences": [controller_reference(deployment, "apps/v1", "Deployment")],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    }
    if spec.get("minReadySeconds"):
        new["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    annotations = new_annotations(deployment, new, revision)
    annotations[DESIRED_REPLICAS] = str(replicas_of(deployment))
    annotations[MAX_REPLICAS] = str(max_replicas)
    new["metadata"]["annotations"] = annotations
    return new


def new_annotations(deployment: Object, new: Object, revision: int) -> dict[str, str]:
    """The annotations that the new ReplicaSet should have: the Deployment's, and its own revision.

    A ReplicaSet that becomes new again (a rollback) gets a higher revision and remembers the former ones.
    """
    annotations = dict(new["metadata"].get("annotations") or {})
    inherited = deployment["metadata"].get("annotations") or {}
    annotations |= {name: inherited[name] for name in inherited if name not in _OF_THE_DEPLOYMENT_ALONE}
    former = annotations.get(REVISION)
    if revision > revision_of(new):
        annotations[REVISION] = str(revision)
        if former is not None:
            annotations[REVISION_HISTORY] = _extended(annotations.get(REVISION_HISTORY, ""), former)
    return annotations


def _extended(history: str, former: str) -> str:
    """The history with one more revision; the oldest fall out when it gets too long."""
    listed = [*history.split(","), former] if history else [former]
    while len(",".join(listed)) > REVISION_HISTORY_CHARACTERS_MAX:
        listed.pop(0)
    return ",".join(listed)


def superfluous(old: Sequence[Object], limit: int | None) -> list[Object]:
    """The old ReplicaSets to delete so that at most `limit` remain: lowest revision first, none in use."""
    if limit is None or limit == 2**31 - 1:
        return []
    alive = [rs for rs in old if not rs["metadata"].get("deletionTimestamp")]
    excess = len(alive) - limit
    if excess <= 0:
        return []
    ordered = sorted(alive, key=lambda rs: (revision_of(rs), created_at(rs), rs["metadata"]["name"]))
    return [rs for rs in ordered[:excess] if not _in_use(rs)]


def _in_use(replica_set: Object) -> bool:
    status = replica_set.get("status") or {}
    observed = status.get("observedGeneration", 0) >= replica_set["metadata"].get("generation", 0)
    return bool(status.get("replicas", 0)) or replicas_of(replica_set) != 0 or not observed
