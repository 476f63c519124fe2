"""Writes of one object with others beside it, which are stored all or not at all."""

from collections.abc import Sequence

from attrs import frozen

from understudy.components.machinery.api import Object
from understudy.components.machinery.resources import Resource, for_kind
from understudy.raftstore import storage as etcd

from .encoding import encode_object, object_store_key


@frozen
class Companions:
    """Cluster-scoped objects that come and go in the same transaction as another one."""

    created: tuple[Object, ...] = ()
    deleted: tuple[tuple[Resource, str], ...] = ()
    """Resource and name; it does not matter if one is gone already."""


ALONE = Companions()


class CompanionExists(Exception):
    """An object that was to be created beside another one exists already."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


def guarded(compare: etcd.Compare, operation: etcd.Operation, beside: Companions) -> etcd.Txn:
    """A guarded operation on an object, and what is done beside it; else a look at the object."""
    if beside is ALONE:
        return etcd.Txn((compare,), (operation,), ())
    compares, operations = [compare], [operation]
    for obj in beside.created:
        key = _companion_key(obj)
        compares.append(etcd.Compare(key, "create", "=", 0))
        operations.append(etcd.Put(key, encode_object(obj)))
    operations += [
        etcd.DeleteRange(object_store_key(resource, "", name)) for resource, name in beside.deleted
    ]
    return etcd.Txn(tuple(compares), tuple(operations), (etcd.Range(compare.key),))


def _companion_key(obj: Object) -> bytes:
    resource = for_kind(obj["apiVersion"], obj["kind"])
    assert resource is not None and not resource.namespaced, obj["kind"]
    return object_store_key(resource, "", obj["metadata"]["name"])


def check_companions(
    beside: Companions, reply: etcd.TxnReply, *, there: bool, revision: int | None = None
) -> None:
    """Raise CompanionExists if it was a companion that kept a write from being stored."""
    if not beside.created:
        return
    found = reply.responses[0]
    assert isinstance(found, etcd.RangeReply), found
    as_expected = bool(found.kvs) is there and (
        revision is None or (there and found.kvs[0].mod_revision == revision)
    )
    if as_expected:
        raise CompanionExists([obj["metadata"]["name"] for obj in beside.created])
