"""Alarms, and the quota that raises one of them. Sans I/O.

A member that would take a write beyond its quota raises `nospace` through the log, and from then on every
member refuses writes that need room, until an operator has made some and takes the alarm back.
"""

from typing import Any, Final

from attrs import define, field

from understudy.raftstore.storage import (
    Alarm,
    AlarmMember,
    Compact,
    Corrupt,
    DeleteRange,
    LeaseGrant,
    LeaseRevoke,
    NoSpace,
    Put,
    Range,
    Txn,
)

KEY_OVERHEAD_BYTES: Final = 256
LEASE_OVERHEAD_BYTES: Final = 64
"""What etcd reckons for a put and for a grant besides their contents."""


def room_needed(request: Any) -> int:
    """About how much larger the store is after a write, as etcd reckons it; 0 for what needs no room."""
    match request:
        case Put():
            return KEY_OVERHEAD_BYTES + len(request.key) + len(request.value)
        case LeaseGrant():
            return LEASE_OVERHEAD_BYTES
        case Txn():
            return max(sum(map(room_needed, branch)) for branch in (request.success, request.failure))
    return 0


def _changes_keys(request: Any) -> bool:
    """Whether a write is about keys and leases. A transaction that only reads is not, unless it holds
    another, as in etcd."""
    if isinstance(request, Txn):
        return not all(isinstance(each, Range) for each in (*request.success, *request.failure))
    return isinstance(request, (Put, DeleteRange, Compact, LeaseGrant, LeaseRevoke))


@define
class Alarms:
    raised: dict[AlarmMember, None] = field(factory=dict)
    """In the order in which they were raised."""

    def apply(self, request: Alarm) -> tuple[AlarmMember, ...]:
        """What the request asks for."""
        alarm = AlarmMember(request.member, request.alarm)
        match request.action:
            case "activate":
                if alarm.alarm == "none":
                    return ()
                self.raised[alarm] = None
                return (alarm,)
            case "deactivate":
                if alarm not in self.raised:
                    return ()
                del self.raised[alarm]
                return (alarm,)
            case "get":
                return tuple(each for each in self.raised if request.alarm in ("none", each.alarm))

    def check(self, request: Any) -> None:
        """Refuse what an alarm stands against. Raises `Corrupt`, `NoSpace`."""
        if not self.raised:
            return
        kinds = {alarm.alarm for alarm in self.raised}
        if "corrupt" in kinds and _changes_keys(request):
            raise Corrupt()
        if "nospace" in kinds and room_needed(request):
            raise NoSpace()
