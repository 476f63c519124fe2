"""ControllerRevisions: the history of a StatefulSet's or DaemonSet's pod template.

A revision holds the template as a strategic merge patch of the owner, under a name that hashes it. All but
`RevisionKeeper` is pure.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define

from understudy.components.client import Client, mutable
from understudy.components.controllers.deployment.template_hash import template_hash
from understudy.components.controllers.equality import semantically_equal
from understudy.components.controllers.ownership import controller_reference
from understudy.components.controllers.timestamps import created_at
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import CONTROLLER_REVISIONS, Resource

Object = dict[str, Any]

HASH_LABEL = "controller.kubernetes.io/hash"
POD_LABEL = "controller-revision-hash"


def revision_data(owner: Object) -> Object:
    """The patch that makes an owner have this template."""
    return {"spec": {"template": {**mutable(owner["spec"]["template"]), "$patch": "replace"}}}


def template_of(revision: Object) -> Object:
    """The template that a revision holds."""
    template = mutable(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    return template  # type: ignore[no-any-return]


def hash_of(revision: Object) -> str:
    """The hash in its name."""
    return str((revision["metadata"].get("labels") or {}).get(HASH_LABEL, ""))


def in_order(revisions: Iterable[Object]) -> list[Object]:
    """Oldest first."""
    return sorted(revisions, key=lambda r: (r.get("revision", 0), created_at(r), r["metadata"]["name"]))


def make_revision(owner: Object, resource: Resource, number: int, collision_count: int | None) -> Object:
    """The revision of the owner's template as it is."""
    data = revision_data(owner)
    hashed = template_hash(data, collision_count)
    labels = dict((owner["spec"]["template"].get("metadata") or {}).get("labels") or {})
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{owner['metadata']['name']}-{hashed}",
            "namespace": owner["metadata"]["namespace"],
            "labels": {**labels, HASH_LABEL: hashed},
            "ownerReferences": [controller_reference(owner, resource.api_version, resource.kind)],
        },
        "data": data,
        "revision": number,
    }


def superfluous_revisions(revisions: Sequence[Object], live: set[str], limit: int) -> list[Object]:
    """The oldest revisions that nothing uses (`live` has the names that are), beyond `limit`."""
    unused = [r for r in in_order(revisions) if r["metadata"]["name"] not in live]
    return unused[: max(0, len(unused) - limit)]


@define
class RevisionKeeper:
    """Keeps the revisions of one kind of owner."""

    client: Client
    resource: Resource

    async def update_revision(self, owner: Object, revisions: Sequence[Object]) -> Object:
        """The revision of the owner's present template, made or brought to the front if need be.

        When its name is taken by another template, `status.collisionCount` of `owner`, which is the caller's
        own, grows; the caller's next write of the status carries it.
        """
        ordered = in_order(revisions)
        number = (ordered[-1].get("revision", 0) if ordered else 0) + 1
        data = revision_data(owner)
        same = [r for r in ordered if semantically_equal(r["data"], data)]
        if same and same[-1] is ordered[-1]:
            return same[-1]
        if same:
            # A rollback: the old revision becomes the newest.
            return await self.client.update(CONTROLLER_REVISIONS, {**same[-1], "revision": number})
        while True:
            status = owner.setdefault("status", {})
            wanted = make_revision(owner, self.resource, number, status.get("collisionCount"))
            found = await self._create(wanted)
            if semantically_equal(found["data"], data):
                return found
            status["collisionCount"] = status.get("collisionCount", 0) + 1

    async def _create(self, wanted: Object) -> Object:
        """The revision of that name, made if there is none."""
        try:
            return await self.client.create(CONTROLLER_REVISIONS, wanted)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        metadata = wanted["metadata"]
        return await self.client.get(CONTROLLER_REVISIONS, metadata["name"], metadata["namespace"])

    async def truncate(self, revisions: Sequence[Object], live: set[str], limit: int) -> None:
        """Delete old revisions."""
        for revision in superfluous_revisions(revisions, live, limit):
            metadata = revision["metadata"]
            try:
                await self.client.delete(CONTROLLER_REVISIONS, metadata["name"], metadata["namespace"])
            except ApiError as error:
                if error.code != 404:
                    raise
