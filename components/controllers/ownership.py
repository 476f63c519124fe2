"""Who owns an object, and whether a controller keeps, adopts or releases it.

The rules are those of the garbage collection and controller design documents: at most one owner is the
controller; an orphan that fits a living controller's selector is adopted, and an owned object that no
longer fits is released.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from understudy.components.machinery.selectors import LabelSelector

Object = dict[str, Any]

CONTROLLER_INDEX = "controller"
"""Index of objects by their controller's uid; orphans are under `orphans_of(namespace)`."""
NAMESPACE_INDEX = "namespace"


def controller_of(obj: Object) -> Object | None:
    """The owner reference of the controller, None for an orphan."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return reference  # type: ignore[no-any-return]
    return None


def is_controlled_by(obj: Object, owner: Object) -> bool:
    """Whether `owner` is the object's controller."""
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == owner["metadata"]["uid"]


def controller_reference(owner: Object, api_version: str, kind: str) -> Object:
    """The owner reference that makes `owner` the controller of what carries it."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def orphans_of(namespace: str) -> str:
    """The value of the controller index under which the orphans of a namespace are."""
    return f"orphans/{namespace}"


def by_controller(obj: Object) -> list[str]:
    """Index function: the controller's uid, or the namespace's orphans."""
    reference = controller_of(obj)
    if reference is not None:
        return [reference["uid"]]
    return [orphans_of(obj["metadata"].get("namespace", ""))]


def by_namespace(obj: Object) -> list[str]:
    """Index function: the namespace."""
    return [obj["metadata"].get("namespace", "")]


def key_of(obj: Object) -> str:
    """`namespace/name`, or `name` of a cluster-scoped object: the key of caches and queues."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name) of a key; the namespace is "" for a cluster-scoped object."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


class Claim(Enum):
    """What a controller does about an object."""

    KEEP = "keep"
    ADOPT = "adopt"
    RELEASE = "release"
    IGNORE = "ignore"


def claim(controller: Object, selector: LabelSelector, obj: Object) -> Claim:
    """Whether `controller`, which selects by `selector`, keeps, adopts, releases or ignores `obj`."""
    reference = controller_of(obj)
    fits = selector.matches(labels_of(obj))
    dying = bool(controller["metadata"].get("deletionTimestamp"))
    if reference is not None:
        if reference["uid"] != controller["metadata"]["uid"]:
            return Claim.IGNORE
        if fits:
            return Claim.KEEP
        return Claim.IGNORE if dying else Claim.RELEASE
    if dying or not fits or obj["metadata"].get("deletionTimestamp"):
        return Claim.IGNORE
    if obj["metadata"].get("namespace", "") != controller["metadata"].get("namespace", ""):
        return Claim.IGNORE
    return Claim.ADOPT


def labels_of(obj: Object) -> Mapping[str, str]:
    """The object's labels."""
    return obj["metadata"].get("labels") or {}


def adoption_patch(obj: Object, reference: Object) -> Object:
    """The strategic merge patch that makes `reference` the controller of `obj`, and of no later namesake."""
    return {"metadata": {"ownerReferences": [reference], "uid": obj["metadata"]["uid"]}}


def release_patch(obj: Object, owner_uid: str) -> Object:
    """The strategic merge patch that drops the reference to `owner_uid` from `obj`."""
    return {
        "metadata": {
            "ownerReferences": [{"$patch": "delete", "uid": owner_uid}],
            "uid": obj["metadata"]["uid"],
        }
    }
