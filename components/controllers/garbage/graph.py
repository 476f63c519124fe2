"""The graph of owners and dependents, kept from what the watches show. Pure: it only says what to look at.

A node stands for an object. An owner that some object names and that has not been seen is a *virtual* node:
it may be gone, or its own watch may be behind; only a read from the server tells. uids are never used
twice, so an owner that is known to be gone stays gone.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from attrs import define, field, frozen

Object = dict[str, Any]

FOREGROUND_FINALIZER = "foregroundDeletion"
ORPHAN_FINALIZER = "orphan"
ABSENT_MAX = 1000
"""How many uids of owners that are gone are remembered."""


@frozen
class Reference:
    """What an owner reference says."""

    api_version: str
    kind: str
    name: str
    uid: str
    blocks: bool
    """The owner may not go, in a foreground deletion, before the one that carries this reference."""

    @classmethod
    def of(cls, reference: Object) -> "Reference":
        """From the object's form."""
        return cls(
            reference["apiVersion"],
            reference["kind"],
            reference["name"],
            reference["uid"],
            bool(reference.get("blockOwnerDeletion")),
        )


@define(eq=False)
class Node:
    """One object."""

    uid: str
    api_version: str
    kind: str
    namespace: str
    """Of a virtual node: that of the dependent which named it, whether its kind has namespaces or not."""
    name: str
    virtual: bool = False
    resource_version: str = ""
    owners: tuple[Reference, ...] = ()
    finalizers: tuple[str, ...] = ()
    deleting: bool = False
    dependents: "dict[str, Node]" = field(factory=dict, repr=False)

    @property
    def deleting_dependents(self) -> bool:
        """Its deletion waits for its dependents to go first."""
        return self.deleting and FOREGROUND_FINALIZER in self.finalizers

    @property
    def orphaning(self) -> bool:
        """Its deletion waits for its dependents to be set free."""
        return self.deleting and ORPHAN_FINALIZER in self.finalizers

    @property
    def blocking_dependents(self) -> "list[Node]":
        """The dependents that a foreground deletion of this object waits for."""
        return [
            dependent
            for _, dependent in sorted(self.dependents.items())
            if any(reference.uid == self.uid and reference.blocks for reference in dependent.owners)
        ]


@define
class Todo:
    """uids to look at, in order."""

    examine: dict[str, None] = field(factory=dict)
    """Objects that may have to be deleted, and owners that may be released."""
    orphan: dict[str, None] = field(factory=dict)
    """Objects whose dependents are to be set free."""


@define
class Graph:
    """All objects by uid."""

    nodes: dict[str, Node] = field(factory=dict)
    _absent: "OrderedDict[str, None]" = field(factory=OrderedDict)

    def is_absent(self, uid: str) -> bool:
        """Whether an owner of that uid is known to be gone."""
        return uid in self._absent

    def note_absent(self, uid: str) -> None:
        """An owner of that uid does not exist."""
        self._absent[uid] = None
        while len(self._absent) > ABSENT_MAX:
            self._absent.popitem(last=False)

    def upsert(self, obj: Object) -> Todo:
        """An object was added or changed."""
        todo = Todo()
        metadata = obj["metadata"]
        uid = metadata["uid"]
        node = self.nodes.get(uid)
        if node is None:
            node = self.nodes[uid] = Node(
                uid, obj["apiVersion"], obj["kind"], metadata.get("namespace", ""), metadata["name"]
            )
        elif node.virtual:
            node.virtual = False
            node.api_version, node.kind = obj["apiVersion"], obj["kind"]
            node.namespace, node.name = metadata.get("namespace", ""), metadata["name"]
        was_deleting, was_foreground = node.deleting, node.deleting_dependents
        node.resource_version = metadata.get("resourceVersion", "")
        node.finalizers = tuple(metadata.get("finalizers") or ())
        node.deleting = bool(metadata.get("deletionTimestamp"))
        self._relink(node, tuple(map(Reference.of, metadata.get("ownerReferences") or ())), todo)
        if node.orphaning and not was_deleting:
            todo.orphan[uid] = None
        if node.deleting_dependents and not was_foreground:
            for dependent in sorted(node.dependents):
                todo.examine[dependent] = None
            todo.examine[uid] = None
        return todo

    def remove(self, uid: str) -> Todo:
        """An object is gone: its dependents have one owner less, and its owners one dependent less."""
        todo = Todo()
        node = self.nodes.pop(uid, None)
        if node is None:
            return todo
        if node.dependents or node.virtual:
            self.note_absent(uid)
        for reference in node.owners:
            self._unlink(node, reference.uid)
        self._release_owners(node.owners, todo)
        for dependent in sorted(node.dependents):
            todo.examine[dependent] = None
        return todo

    def _relink(self, node: Node, owners: tuple[Reference, ...], todo: Todo) -> None:
        before = node.owners
        if before == owners:
            return
        node.owners = owners
        wanted = {reference.uid for reference in owners}
        for reference in before:
            if reference.uid not in wanted:
                self._unlink(node, reference.uid)
        for reference in owners:
            owner = self.nodes.get(reference.uid)
            if owner is None and self.is_absent(reference.uid):
                todo.examine[node.uid] = None
                continue
            if owner is None:
                owner = self.nodes[reference.uid] = Node(
                    reference.uid,
                    reference.api_version,
                    reference.kind,
                    node.namespace,
                    reference.name,
                    virtual=True,
                )
                todo.examine[owner.uid] = None
            elif not owner.virtual and (owner.kind != reference.kind or owner.name != reference.name):
                todo.examine[node.uid] = None  # the reference does not fit the object of that uid
            owner.dependents[node.uid] = node
        self._release_owners(before, todo)

    def _unlink(self, node: Node, owner_uid: str) -> None:
        owner = self.nodes.get(owner_uid)
        if owner is None:
            return
        owner.dependents.pop(node.uid, None)
        if owner.virtual and not owner.dependents:
            del self.nodes[owner_uid]

    def _release_owners(self, references: Iterable[Reference], todo: Todo) -> None:
        """Owners that wait for their dependents may have one less to wait for."""
        for reference in references:
            owner = self.nodes.get(reference.uid)
            if owner is not None and owner.deleting_dependents:
                todo.examine[owner.uid] = None
