"""The garbage collector's actor."""

from typing import Any

from attrs import define, field

from understudy.components.client import Change
from understudy.components.controllers.controller import Controller, ControllerContext, is_conflict
from understudy.components.controllers.garbage.graph import (
    FOREGROUND_FINALIZER,
    ORPHAN_FINALIZER,
    Graph,
    Node,
    Reference,
    Todo,
)
from understudy.components.controllers.served import custom_resource, served_resources
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    EVENTS_V1,
    Resource,
    for_kind,
)

Object = dict[str, Any]

IGNORED = frozenset({EVENTS.group_resource, EVENTS_V1.group_resource})
"""Events are many, short-lived and own nothing."""
EXAMINE, ORPHAN = "examine ", "orphan "


@define
class _Owners:
    """The owner references of an object by what is known of the owners."""

    solid: list[Reference] = field(factory=list)
    dangling: list[Reference] = field(factory=list)
    waiting: list[Reference] = field(factory=list)
    """Owners that are being deleted in the foreground and wait for this object."""


class GarbageCollector(Controller):
    """Deletes what has owners and none of them left; frees dependents where the user asked for orphans.

    It follows every resource there is. What the watches show decides what to look at; a deletion carries
    the uid and the resourceVersion that the decision was made on, so that a stale view deletes nothing.
    """

    name = "garbage-collector-controller"

    def __init__(self, shared: ControllerContext) -> None:
        super().__init__(shared)
        self.graph = Graph()
        self._monitored: dict[str, Resource] = {}

    @property
    def workers(self) -> int:
        return self.options.concurrent_gc_syncs

    def register(self) -> None:
        self.definitions = self.informer(CUSTOM_RESOURCE_DEFINITIONS)

    async def on_synced(self) -> None:
        """Follow everything, one resource after the other: the cluster's start does not wait for this."""
        for resource in served_resources(self.definitions.list()):
            await self._monitor(resource).synced()
        self._unsubscribe.append(self.definitions.subscribe(self._on_definition))

    def _monitor(self, resource: Resource) -> Any:
        if resource.group_resource in IGNORED or "watch" not in resource.verbs:
            return _Nothing()
        if resource.group_resource not in self._monitored:
            self._monitored[resource.group_resource] = resource
            return self.watch(resource, self._on_object)
        return self.informers.of(resource)

    def _on_definition(self, change: Change) -> None:
        if change.new is not None:
            resource = custom_resource(change.new)
            if resource is not None:
                self._monitor(resource)

    def _on_object(self, change: Change) -> None:
        old, new = change.old, change.new
        if new is None:
            assert old is not None
            self._note(self.graph.remove(old["metadata"]["uid"]))
            return
        if old is not None and old["metadata"]["uid"] != new["metadata"]["uid"]:
            self._note(self.graph.remove(old["metadata"]["uid"]))
        self._note(self.graph.upsert(new))

    def _note(self, todo: Todo) -> None:
        for uid in todo.examine:
            self.queue.add(EXAMINE + uid)
        for uid in todo.orphan:
            self.queue.add(ORPHAN + uid)

    async def sync(self, key: str) -> None:
        task, _, uid = key.partition(" ")
        node = self.graph.nodes.get(uid)
        if node is None:
            return
        if f"{task} " == ORPHAN:
            await self._orphan(node)
        elif node.virtual:
            await self._verify(node)
        else:
            await self._examine(node)

    # -- what objects there are

    def _resource(self, api_version: str, kind: str) -> Resource | None:
        found = for_kind(api_version, kind)
        if found is not None:
            return found
        for definition in self.definitions.list():
            resource = custom_resource(definition)
            if resource is None or resource.kind != kind:
                continue
            if resource.group == api_version.rpartition("/")[0]:
                return resource
        return None

    async def _exists(self, reference: Reference, namespace: str) -> Object | None:
        """The owner as the server has it now; None when there is none of that uid.

        Raises LookupError for a kind that is not known: nothing can be said then.
        """
        resource = self._resource(reference.api_version, reference.kind)
        if resource is None:
            raise LookupError(f"{reference.api_version} {reference.kind} is not served")
        if resource.namespaced and not namespace:
            raise LookupError("a cluster-scoped object cannot have an owner in a namespace")
        try:
            found = await self.client.get(resource, reference.name, namespace if resource.namespaced else "")
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return found if found["metadata"]["uid"] == reference.uid else None

    async def _verify(self, node: Node) -> None:
        """Is an owner that was never seen gone, or only late?"""
        reference = Reference(node.api_version, node.kind, node.name, node.uid, False)
        try:
            found = await self._exists(reference, node.namespace)
        except LookupError:
            return
        if not node.virtual or self.graph.nodes.get(node.uid) is not node:
            return  # its own watch has told meanwhile
        if found is None:
            self._note(self.graph.remove(node.uid))
        else:
            self.queue.add_rate_limited(EXAMINE + node.uid)

    # -- deleting

    async def _examine(self, node: Node) -> None:
        if node.deleting and not node.deleting_dependents:
            return
        if node.deleting_dependents:
            await self._continue_foreground(node)
            return
        if not node.owners:
            return
        owners = await self._classify(node)
        if owners.solid:
            if owners.dangling or owners.waiting:
                await self._drop_references(node, {r.uid for r in (*owners.dangling, *owners.waiting)})
        elif owners.waiting and node.dependents:
            for dependent in node.dependents.values():
                if dependent.deleting_dependents:
                    # A circle in which each waits for the other: this one stops blocking its owner.
                    await self._unblock(node)
                    break
            await self._delete(node, "Foreground")
        elif owners.waiting or owners.dangling:
            if ORPHAN_FINALIZER in node.finalizers:
                policy = "Orphan"
            elif FOREGROUND_FINALIZER in node.finalizers:
                policy = "Foreground"
            else:
                policy = "Background"
            await self._delete(node, policy)

    async def _continue_foreground(self, node: Node) -> None:
        blocking = node.blocking_dependents
        if not blocking:
            await self._remove_finalizer(node, FOREGROUND_FINALIZER)
            return
        for dependent in blocking:
            if not dependent.deleting_dependents:
                self.queue.add(EXAMINE + dependent.uid)

    async def _classify(self, node: Node) -> _Owners:
        owners = _Owners()
        for reference in node.owners:
            if self.graph.is_absent(reference.uid):
                owners.dangling.append(reference)
                continue
            known = self.graph.nodes.get(reference.uid)
            if known is not None and not known.virtual and _fits(reference, known, node):
                (owners.waiting if known.deleting_dependents else owners.solid).append(reference)
                continue
            try:
                found = await self._exists(reference, node.namespace)
            except LookupError as error:
                self._complain(node, reference, str(error))
                owners.solid.append(reference)  # what cannot be judged is not deleted
                continue
            if found is None:
                if known is None:
                    self.graph.note_absent(reference.uid)
                owners.dangling.append(reference)
            elif _waits_for_dependents(found):
                owners.waiting.append(reference)
            else:
                owners.solid.append(reference)
        return owners

    def _complain(self, node: Node, reference: Reference, why: str) -> None:
        involved = {
            "apiVersion": node.api_version,
            "kind": node.kind,
            "metadata": {"name": node.name, "namespace": node.namespace, "uid": node.uid},
        }
        named = f"{reference.api_version}/{reference.kind}, name: {reference.name}, uid: {reference.uid}"
        self.recorder.event(involved, "Warning", "OwnerRefInvalidNamespace", f"ownerRef [{named}]: {why}")

    async def _delete(self, node: Node, policy: str) -> None:
        resource = self._resource(node.api_version, node.kind)
        assert resource is not None, f"{node} is watched, but its kind is not known"
        try:
            await self.client.delete(
                resource,
                node.name,
                node.namespace,
                uid=node.uid,
                resource_version=node.resource_version,
                propagation_policy=policy,
            )
        except ApiError as error:
            if error.code == 404:
                return
            if is_conflict(error):
                self.queue.add_rate_limited(EXAMINE + node.uid)  # decide again on what it is now
                return
            raise

    # -- changing metadata

    async def _live(self, node: Node) -> tuple[Resource, Object] | None:
        resource = self._resource(node.api_version, node.kind)
        if resource is None:
            return None
        try:
            live = await self.client.get(resource, node.name, node.namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return (resource, live) if live["metadata"]["uid"] == node.uid else None

    async def _patch_metadata(self, node: Node, resource: Resource, live: Object, changes: Object) -> None:
        metadata = {**changes, "resourceVersion": live["metadata"]["resourceVersion"]}
        try:
            await self.client.patch(resource, node.name, {"metadata": metadata}, node.namespace, type="merge")
        except ApiError as error:
            if error.code != 404:
                raise

    async def _drop_references(self, node: Node, uids: set[str]) -> None:
        found = await self._live(node)
        if found is None:
            return
        resource, live = found
        references = live["metadata"].get("ownerReferences") or []
        kept = [reference for reference in references if reference["uid"] not in uids]
        if len(kept) != len(references):
            await self._patch_metadata(node, resource, live, {"ownerReferences": kept or None})

    async def _unblock(self, node: Node) -> None:
        found = await self._live(node)
        if found is None:
            return
        resource, live = found
        references = live["metadata"].get("ownerReferences") or []
        if any(reference.get("blockOwnerDeletion") for reference in references):
            freed = [{**reference, "blockOwnerDeletion": False} for reference in references]
            await self._patch_metadata(node, resource, live, {"ownerReferences": freed})

    async def _remove_finalizer(self, node: Node, finalizer: str) -> None:
        found = await self._live(node)
        if found is None:
            return
        resource, live = found
        finalizers = live["metadata"].get("finalizers") or []
        if finalizer in finalizers:
            kept = [name for name in finalizers if name != finalizer]
            await self._patch_metadata(node, resource, live, {"finalizers": kept or None})

    async def _orphan(self, node: Node) -> None:
        for _, dependent in sorted(node.dependents.items()):
            await self._drop_references(dependent, {node.uid})
        await self._remove_finalizer(node, ORPHAN_FINALIZER)


class _Nothing:
    async def synced(self) -> None:
        """There is nothing to wait for."""


def _fits(reference: Reference, owner: Node, dependent: Node) -> bool:
    """Whether the reference names the object of its uid rightly."""
    return (
        reference.kind == owner.kind
        and reference.name == owner.name
        and reference.api_version.rpartition("/")[0] == owner.api_version.rpartition("/")[0]
        and owner.namespace in ("", dependent.namespace)
    )


def _waits_for_dependents(owner: Object) -> bool:
    metadata = owner["metadata"]
    return bool(metadata.get("deletionTimestamp")) and FOREGROUND_FINALIZER in (
        metadata.get("finalizers") or ()
    )
