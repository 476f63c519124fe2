"""Owners of `replicas`, seen through the `scale` subresource.

A Scale has the one field `.spec.replicas`. Whoever owns its twin in the scaled object owns it; whoever
takes it there takes it from the object's owner. Writes to `scale` are tracked on the Scale, between these
two translations.
"""

from collections.abc import Mapping

from understudy.components.machinery import field_set, managed_fields
from understudy.components.machinery.errors import Object
from understudy.components.machinery.field_set import FieldSet
from understudy.components.machinery.managed_fields import Managers, Ownership

SCALE_VERSION = "autoscaling/v1"
_IN_SCALE = field_set.of_paths("spec.replicas")


def scale_owners(entries: list[Object], replicas_paths: Mapping[str, str]) -> list[Object]:
    """The `managedFields` of a Scale from those of its object.

    `replicas_paths`: the dotted path of the replicas in each API version of the object (`spec.replicas`).
    """
    owners: Managers = {}
    for identity, ownership in managed_fields.decode(entries).items():
        path = _path(replicas_paths, ownership.api_version)
        if path and field_set.intersection(ownership.fields, path):
            owners[identity] = Ownership(_IN_SCALE, SCALE_VERSION, ownership.time)
    return managed_fields.encode(owners)


def object_owners(
    entries: list[Object], scale_entries: list[Object], api_version: str, replicas_paths: Mapping[str, str]
) -> list[Object]:
    """The `managedFields` of the object after those of its Scale changed.

    `entries`: the object's before; `api_version`: the version it is written in. New owners have no time, as
    in the real server.
    """
    now = {identity._replace(api_version=""): identity for identity in managed_fields.decode(scale_entries)}
    owners: Managers = {}
    for identity, ownership in managed_fields.decode(entries).items():
        path = _path(replicas_paths, ownership.api_version)
        if path is None:
            continue  # a version that is not served any more
        apart = not field_set.intersection(ownership.fields, path)
        if apart or now.pop(identity._replace(api_version=""), None) is not None:
            owners[identity] = ownership
        elif fields := field_set.difference(ownership.fields, path):
            owners[identity] = Ownership(fields, ownership.api_version, ownership.time)
    here = _path(replicas_paths, api_version)
    assert here is not None, (api_version, replicas_paths)
    for identity in now.values():
        version = api_version if identity.operation == "Update" else ""
        owners[identity._replace(api_version=version)] = Ownership(here, api_version, None)
    return managed_fields.encode(owners)


def _path(replicas_paths: Mapping[str, str], api_version: str) -> FieldSet | None:
    path = replicas_paths.get(api_version)
    return None if path is None else field_set.of_paths(path)
