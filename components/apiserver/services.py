"""Cluster IPs and node ports of Services within a write: reserved before it, kept or given back after."""

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define

from understudy.actors import World
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import invalid
from understudy.components.machinery.service_fields import (
    default_ip_families,
    keep_allocated,
    normalise_cluster_ips,
)
from understudy.components.machinery.validation.services import validate_cluster_ips

from .allocators import Reservation, ServiceAllocators, Unallocatable


@define
class Allocation:
    """What one write has reserved."""

    obj: Object
    """The object with everything allocated filled in."""
    reservation: Reservation | None = None
    stored: bool = False

    def keep(self) -> None:
        """The object was stored."""
        self.stored = True


@define
class ServiceAllocation:
    """The allocators behind the write path; the stored Services are the truth and fill it at start."""

    world: World
    allocators: ServiceAllocators

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
        allocation = Allocation(reservation.service, reservation)
        try:
            yield allocation
        finally:
            if allocation.stored:
                reservation.keep()
            else:
                reservation.give_back()

    def release(self, obj: Object) -> None:
        """The object was deleted."""
        if obj["kind"] == "Service":
            self.allocators.release(obj)
