"""Cluster IPs and node ports of Services within a write: reserved before it, kept or given back after."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from attrs import define, field

from understudy.actors import World
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import FieldError, invalid
from understudy.components.machinery.managed_fields import track_update
from understudy.components.machinery.resources import IP_ADDRESSES
from understudy.components.machinery.schema import schema_for
from understudy.components.machinery.service_fields import (
    default_ip_families,
    family_of,
    keep_allocated,
    normalise_cluster_ips,
)
from understudy.components.machinery.validation.services import validate_cluster_ips

from .allocators import ServiceAllocators, Unallocatable, cluster_ips, node_ports
from .cacher import Cache, Interest, Seen
from .transactions import ALONE, CompanionExists, Companions


@define
class Allocation:
    """What one write has reserved."""

    obj: Object
    """The object with everything allocated filled in."""

    beside: Companions = ALONE
    """The IPAddress objects that come and go with it."""
    stored: bool = False

    def keep(self) -> None:
        """The object was stored."""
        self.stored = True


Held = str | int
"""A cluster IP or a node port."""


def held_by(service: Object) -> list[Held]:
    """Everything that is allocated to a Service."""
    spec = service.get("spec") or {}
    return [*cluster_ips(spec), *node_ports(spec)]


@define
class ServiceAllocation:
    """The allocators behind the write path.

    The stored Services are the truth: they fill the allocators at start, and later changes by others (another
    API server, a write whose outcome was not known) are followed.
    """

    world: World
    allocators: ServiceAllocators
    owners: dict[Held, str] = field(factory=dict)
    """By what is held, the UID of the stored Service that holds it."""

    def follow(self, cache: Cache) -> list[str]:
        """Take what the stored Services have, now and from now on; texts say where two have the same."""
        problems = []
        for entry in cache.list(Interest()):
            service = entry.parse()
            problems += [
                f"{entry.namespace}/{entry.name}: {problem}" for problem in self.allocators.hold(service)
            ]
            self._note(service, None)
        cache.subscribe(Interest(), self._changed)
        return problems

    def _changed(self, seen: Seen, revision: int) -> None:
        if seen.type == "DELETED":
            self.release(seen.entry.parse())
            return
        service = seen.entry.parse()
        if any(self.owners.get(held) != service["metadata"]["uid"] for held in held_by(service)):
            self.allocators.hold(service)
        self._note(service, None if seen.old is None else seen.old.parse())

    def _note(self, service: Object, old: Object | None) -> None:
        """A Service is stored: what it has is its own, and what it had is free."""
        uid, now = service["metadata"]["uid"], held_by(service)
        for held in now:
            self.owners.setdefault(held, uid)
        if old is not None:
            self._free([held for held in held_by(old) if held not in now], uid)

    def _free(self, helds: Iterable[Held], uid: str) -> None:
        """Give back what is this Service's own; somebody else may have it by now."""
        own = [held for held in helds if self.owners.get(held) == uid]
        for held in own:
            del self.owners[held]
        self.allocators.free(
            [held for held in own if isinstance(held, str)], [held for held in own if isinstance(held, int)]
        )

    def prepare(self, new: Object, old: Object | None) -> None:
        """Complete what a Service says about addresses and ports, in place, before it is validated.

        Raises ApiError 422.
        """
        if new["kind"] != "Service":
            return
        normalise_cluster_ips(new, old)
        if old is not None:
            keep_allocated(new, old)
        families = tuple(self.allocators.addresses)
        findings = validate_cluster_ips(new) or default_ip_families(new, old, families)
        if findings:
            raise invalid("", "Service", new["metadata"].get("name", ""), findings)

    @contextmanager
    def reserve(self, new: Object, old: Object | None) -> Iterator[Allocation]:
        """Reserve what a Service needs; given back when the block ends without `keep`. Raises 422."""
        if new["kind"] != "Service":
            yield Allocation(new)
            return
        try:
            reservation = self.allocators.allocate(new, old, self.world.rng("service allocation"))
        except Unallocatable as error:
            raise invalid("", "Service", new["metadata"].get("name", ""), error.findings) from None
        made = reservation.service
        allocation = Allocation(made, self._addresses(made, old))
        try:
            yield allocation
        except CompanionExists as error:
            text = f"failed to allocate IP {error}: provided IP is already allocated"
            finding = FieldError("FieldValueInvalid", "spec.clusterIPs", cluster_ips(made["spec"]), text)
            raise invalid("", "Service", made["metadata"].get("name", ""), [finding]) from None
        finally:
            uid = made["metadata"]["uid"]
            before = [] if old is None else held_by(old)
            taken = [held for held in held_by(made) if held not in before]
            # A write that seemed to fail may have been stored after all, which the watch has said by now.
            arrived = bool(taken) and all(self.owners.get(held) == uid for held in taken)
            if allocation.stored or arrived:
                for held in before:
                    if held not in held_by(made) and self.owners.get(held) == uid:
                        del self.owners[held]
                reservation.keep()
                self._note(made, None)
            else:
                reservation.give_back()

    def _addresses(self, service: Object, old: Object | None) -> Companions:
        """The IPAddress objects to make and to delete when a Service is stored in place of `old`."""
        now = cluster_ips(service["spec"])
        before = [] if old is None else cluster_ips(old["spec"])
        return Companions(
            tuple(self.address_object(service, address) for address in now if address not in before),
            tuple((IP_ADDRESSES, address) for address in before if address not in now),
        )

    def address_object(self, service: Object, address: str) -> Object:
        """The IPAddress that says which Service has an address."""
        metadata = service["metadata"]
        labels = {
            "ipaddress.kubernetes.io/ip-family": family_of(address),
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }
        now = self.world.now_text()
        obj: Object = {
            "kind": IP_ADDRESSES.kind,
            "apiVersion": IP_ADDRESSES.api_version,
            "metadata": {
                "name": address,
                "uid": self.world.uuid("uids"),
                "creationTimestamp": now,
                "labels": labels,
            },
            "spec": {
                "parentRef": {
                    "resource": "services",
                    "namespace": metadata["namespace"],
                    "name": metadata["name"],
                }
            },
        }
        schema = schema_for(IP_ADDRESSES.api_version, IP_ADDRESSES.kind)
        assert schema is not None, "IPAddress has a schema"
        obj["metadata"]["managedFields"] = track_update(schema, None, obj, "kube-apiserver", time=now)
        return obj

    def beside_removal(self, obj: Object) -> Companions:
        """What goes with an object that is deleted."""
        if obj["kind"] != "Service":
            return ALONE
        return Companions(deleted=tuple((IP_ADDRESSES, address) for address in cluster_ips(obj["spec"])))

    def release(self, obj: Object) -> None:
        """The object was deleted."""
        if obj["kind"] == "Service":
            self._free(held_by(obj), obj["metadata"]["uid"])
