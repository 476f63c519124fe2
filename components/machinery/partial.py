"""PartialObjectMetadata: an object reduced to its metadata, whatever its kind.

Controllers that only care about names, labels, owners and finalizers ask for it (`as=PartialObjectMetadata`
in Accept). The metadata is that of the object given, shared and not copied.
"""

from collections.abc import Iterable
from typing import Any

from understudy.components.machinery.errors import ApiError, not_acceptable

Object = dict[str, Any]

META_V1 = "meta.k8s.io/v1"
META_V1BETA1 = "meta.k8s.io/v1beta1"


def partial_object_metadata(obj: Object, api_version: str = META_V1) -> Object:
    """The metadata of one object; `api_version` is the version of meta.k8s.io that was asked for."""
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj["metadata"]}


def partial_object_metadata_list(
    objects: Iterable[Object], list_metadata: Object, api_version: str = META_V1
) -> Object:
    """The metadata of each object of a list, with the list's own metadata."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": api_version,
        "metadata": list_metadata,
        "items": [partial_object_metadata(obj, api_version) for obj in objects],
    }


def one_asked_of_a_list(list_kind: str) -> ApiError:
    """406: PartialObjectMetadata was asked for, and the answer is a list (`list_kind`)."""
    return not_acceptable(
        f"you requested PartialObjectMetadata, but the requested object is a list ({list_kind})"
    )


def list_asked_of_one(kind: str) -> ApiError:
    """406: PartialObjectMetadataList was asked for, and the answer is one object (of `kind`)."""
    return not_acceptable(
        f"you requested PartialObjectMetadataList, but the requested object is not a list ({kind})"
    )
