"""What is left in a namespace that is being deleted, and how its conditions tell it. All pure."""

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from understudy.components.controllers.conditions import find_condition
from understudy.components.machinery.resources import Resource

Object = dict[str, Any]

KUBERNETES_FINALIZER = "kubernetes"


@define
class Remains:
    """What a round of deletion found."""

    counts: dict[str, int] = field(factory=dict)
    """Objects still there, by group resource."""
    finalizers: dict[str, int] = field(factory=dict)
    """How many of them wait for each finalizer."""
    errors: list[str] = field(factory=list)
    """What could not be deleted, and why."""
    grace_seconds: int = 0
    """The longest time that a pod among them may still take."""

    def add(self, resource: Resource, objects: list[Object]) -> None:
        """Note what is left of one resource."""
        if not objects:
            return
        self.counts[resource.group_resource] = len(objects)
        for obj in objects:
            metadata = obj["metadata"]
            for name in metadata.get("finalizers") or ():
                self.finalizers[name] = self.finalizers.get(name, 0) + 1
            if resource.plural == "pods" and not resource.group:
                spec = obj.get("spec") or {}
                grace = metadata.get("deletionGracePeriodSeconds")
                if grace is None:
                    grace = spec.get("terminationGracePeriodSeconds", 30)
                self.grace_seconds = max(self.grace_seconds, int(grace))

    @property
    def empty(self) -> bool:
        """Whether nothing is left and nothing failed."""
        return not self.counts and not self.errors


def deletion_conditions(old: list[Object] | None, remains: Remains, now_text: str) -> list[Object]:
    """The namespace's conditions after a round; a condition that only its message changes keeps its time."""
    wanted = [
        _verdict(
            "NamespaceDeletionDiscoveryFailure",
            None,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        _verdict(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        _verdict(
            "NamespaceDeletionContentFailure",
            ("ContentDeletionFailed", "Failed to delete all resource types, ") if remains.errors else None,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
            f"{len(remains.errors)} remaining: {', '.join(remains.errors)}",
        ),
        _verdict(
            "NamespaceContentRemaining",
            ("SomeResourcesRemain", "Some resources are remaining: ") if remains.counts else None,
            "ContentRemoved",
            "All content successfully removed",
            _counted(remains.counts, "{name} has {count} resource instances"),
        ),
        _verdict(
            "NamespaceFinalizersRemaining",
            ("SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: ")
            if remains.finalizers
            else None,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
            _counted(remains.finalizers, "{name} in {count} resource instances"),
        ),
    ]
    types = {condition["type"] for condition in wanted}
    kept = [condition for condition in old or () if condition["type"] not in types]
    return kept + [_settled(find_condition(old, new["type"]), new, now_text) for new in wanted]


def _counted(counts: Mapping[str, int], text: str) -> str:
    return ", ".join(text.format(name=name, count=counts[name]) for name in sorted(counts))


def _verdict(
    kind: str, bad: tuple[str, str] | None, good_reason: str, good_text: str, detail: str = ""
) -> Object:
    if bad is None:
        return {"type": kind, "status": "False", "reason": good_reason, "message": good_text}
    return {"type": kind, "status": "True", "reason": bad[0], "message": bad[1] + detail}


def _settled(old: Object | None, new: Object, now_text: str) -> Object:
    if old is not None and old["status"] == new["status"]:
        return {**new, "lastTransitionTime": old.get("lastTransitionTime", now_text)}
    return {**new, "lastTransitionTime": now_text}
