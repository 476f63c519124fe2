"""One step of a client of the etcd API, on the wire: what is drawn, what is sent, what of the answer counts.

Answers are protobuf messages with everything in them but what differs between any two clusters: ids of
cluster and member, terms, hashes, sizes, times.
"""

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen
from hypothesis import strategies as st

from understudy.properties.store_requests import (
    AUTH_REQUESTS,
    BACK,
    ENDS,
    KEYS,
    LEASES,
    REQUESTS,
    placed,
)
from understudy.raftstore.etcd.grpc import RpcError
from understudy.raftstore.etcd.routes import ROUTES
from understudy.raftstore.etcd.schema import messages
from understudy.raftstore.storage import ALL_KEYS_END, Compact, Compare, DeleteRange, Put, Range, Txn, UserGet

KV: Final = "/etcdserverpb.KV"
LEASE: Final = "/etcdserverpb.Lease"
MAINTENANCE: Final = "/etcdserverpb.Maintenance"
CLUSTER: Final = "/etcdserverpb.Cluster"
AUTH: Final = "/etcdserverpb.Auth"
ALARMS: Final = (1, 2)
"""nospace and corrupt."""


@frozen
class Raw:
    """A call that the contract has no request for, since it is wrong."""

    path: str
    request: Any

    def __repr__(self) -> str:
        return f"Raw({self.path!r}, messages.{type(self.request).__name__}.FromString({self._bytes()!r}))"

    def _bytes(self) -> bytes:
        data: bytes = self.request.SerializeToString(deterministic=True)
        return data


@frozen
class KeepAlive:
    """One message and one answer of a stream of keep-alives."""

    id: int


@frozen
class OpenWatch:
    """One more watch of the stream."""

    key: bytes
    range_end: bytes
    filters: tuple[int, ...]
    prev_kv: bool
    back: int | None
    """How far back it starts; None: at whatever comes next; negative: in the future."""
    id: int = 0

    def request(self, revision: int, compacted: int) -> Any:
        start = 0 if self.back is None else max(1, revision - self.back)
        if start and start == compacted:
            # An etcd before 3.4.33 and 3.5.15 forgets a deletion at that very revision (etcd#18089).
            start += 1
        return messages.WatchCreateRequest(
            key=self.key,
            range_end=self.range_end,
            start_revision=start,
            prev_kv=self.prev_kv,
            filters=self.filters,
            watch_id=self.id,
        )


@frozen
class CancelWatch:
    id: int


@frozen
class RaiseAlarm:
    """Raise one kind of alarm, without the other: in etcd taking back either ends what both forbid."""

    kind: int

    def requests(self) -> list[Any]:
        others = [number for number in ALARMS if number != self.kind]
        return [*map(_taken_back, others), messages.AlarmRequest(action=1, memberID=5, alarm=self.kind)]


@frozen
class TakeBackAlarms:
    def requests(self) -> list[Any]:
        return [*map(_taken_back, ALARMS)]


def _taken_back(kind: int) -> Any:
    return messages.AlarmRequest(action=2, memberID=5, alarm=kind)


Step = Any
"""A request of the contract, with distances for revisions; or one of the above."""


def _raw(path: str, request: Any) -> Raw:
    return Raw(path, request)


WRONG: Final = st.sampled_from(
    [
        _raw(f"{KV}/Range", messages.RangeRequest()),
        _raw(f"{KV}/Range", messages.RangeRequest(key=b"a", limit=-1)),
        _raw(f"{KV}/Range", messages.RangeRequest(key=b"a", revision=-1)),
        _raw(f"{KV}/Range", messages.RangeRequest(key=b"a", revision=1 << 40)),
        _raw(f"{KV}/Range", messages.RangeRequest(key=b"b", range_end=b"a")),
        *(
            _raw(f"{KV}/Range", messages.RangeRequest(key=b"a", range_end=b"d", limit=2, **bound))
            for bound in (
                {"min_mod_revision": -1},
                {"max_mod_revision": -1},
                {"min_create_revision": -1},
                {"max_create_revision": -1},
            )
        ),
        _raw(
            f"{KV}/Txn",
            messages.TxnRequest(
                success=[messages.RequestOp(request_range=messages.RangeRequest(key=b"a", revision=-1))]
            ),
        ),
        _raw(f"{KV}/Put", messages.PutRequest(value=b"x")),
        _raw(f"{KV}/Put", messages.PutRequest(key=b"a", value=b"x", ignore_value=True)),
        _raw(f"{KV}/Put", messages.PutRequest(key=b"a", lease=1, ignore_lease=True)),
        _raw(f"{KV}/Put", messages.PutRequest(key=b"none", ignore_value=True)),
        _raw(f"{KV}/DeleteRange", messages.DeleteRangeRequest()),
        _raw(f"{KV}/DeleteRange", messages.DeleteRangeRequest(key=b"b", range_end=b"a")),
        _raw(f"{KV}/Txn", messages.TxnRequest(success=[messages.RequestOp()])),
        _raw(f"{KV}/Txn", messages.TxnRequest(compare=[messages.Compare()])),
        _raw(
            f"{KV}/Txn",
            messages.TxnRequest(
                success=[messages.RequestOp(request_range=messages.RangeRequest(key=b"a"))] * 129
            ),
        ),
        _raw(
            f"{KV}/Txn",
            messages.TxnRequest(success=[messages.RequestOp(request_put=messages.PutRequest(key=b"a"))] * 2),
        ),
        _raw(f"{KV}/Compact", messages.CompactionRequest(revision=-5)),
        _raw(f"{KV}/Compact", messages.CompactionRequest(revision=1 << 40)),
        _raw(f"{LEASE}/LeaseGrant", messages.LeaseGrantRequest(ID=1, TTL=9_000_000_001)),
        _raw(f"{LEASE}/LeaseRevoke", messages.LeaseRevokeRequest()),
        _raw(f"{LEASE}/LeaseTimeToLive", messages.LeaseTimeToLiveRequest(ID=77, keys=True)),
        _raw(f"{MAINTENANCE}/Alarm", messages.AlarmRequest()),
        _raw(f"{MAINTENANCE}/Alarm", messages.AlarmRequest(action=2, memberID=5, alarm=1)),
        _raw(f"{MAINTENANCE}/HashKV", messages.HashKVRequest(revision=1 << 40)),
    ]
)
"""What clients get wrong, and odd things that are right.

Not an unknown order of sorting: 3.4 takes it for none, 3.5 refuses it, and so do we.
"""

PAGES: Final = st.builds(
    Range,
    st.just(b"a"),
    st.just(b"d"),
    limit=st.integers(1, 5),
    sort_order=st.sampled_from(["none", "none", "ascend", "descend"]),
    sort_target=st.sampled_from(["key", "version", "create", "mod", "value"]),
)
"""Of a range that has more keys than a page."""
FILLING: Final = st.permutations([b"a", b"aa", b"ab", b"b", b"b\xff", b"c"]).map(
    lambda keys: Txn((), tuple(Put(key, b"%d" % number) for number, key in enumerate(keys)))
)
"""Every key is there, in an order of its own by each field."""

NO_MEMBER: Final = st.sampled_from(
    [
        _raw(f"{CLUSTER}/MemberRemove", messages.MemberRemoveRequest(ID=77)),
        _raw(f"{CLUSTER}/MemberPromote", messages.MemberPromoteRequest(ID=77)),
        _raw(
            f"{CLUSTER}/MemberUpdate", messages.MemberUpdateRequest(ID=77, peerURLs=["http://127.0.0.1:77"])
        ),
        _raw(f"{CLUSTER}/MemberAdd", messages.MemberAddRequest()),
    ]
)
"""Changes of the members that only root may ask for, and that come to nothing."""
LOG_INS: Final = st.builds(
    lambda name, password: _raw(
        f"{AUTH}/Authenticate", messages.AuthenticateRequest(name=name, password=password)
    ),
    st.sampled_from(["root", "ada", "bob", "nobody", ""]),
    st.sampled_from(["pw", "", "wrong"]),
)

LOOKS: Final = st.sampled_from(
    [
        _raw(f"{LEASE}/LeaseLeases", messages.LeaseLeasesRequest()),
        *(
            _raw(f"{LEASE}/LeaseTimeToLive", messages.LeaseTimeToLiveRequest(ID=id, keys=True))
            for id in LEASES
        ),
        _raw(f"{MAINTENANCE}/HashKV", messages.HashKVRequest()),
        *(KeepAlive(id) for id in LEASES),
        KeepAlive(99),
    ]
)

WATCHES: Final = st.builds(
    OpenWatch,
    KEYS,
    ENDS,
    st.sampled_from([(), (), (), (0,), (1,), (0, 1)]),
    st.booleans(),
    st.sampled_from([None, None, -1, -3]),
    st.sampled_from([0, 0, 0, 5]),
)
PAST_WATCHES: Final = st.builds(
    OpenWatch, KEYS, ENDS, st.just(()), st.booleans(), BACK.filter(bool) | st.just(20)
)

STEPS: Final = st.sampled_from(
    [REQUESTS] * 12
    + [AUTH_REQUESTS] * 4
    + [FILLING, PAGES, PAGES, NO_MEMBER, LOG_INS]
    + [st.builds(RaiseAlarm, st.sampled_from(ALARMS)), st.just(TakeBackAlarms())]
    + [WRONG] * 2
    + [LOOKS] * 2
    + [WATCHES] * 2
    + [st.builds(CancelWatch, st.sampled_from([0, 1, 2, 5]))]
).flatmap(lambda strategy: strategy)


REMAINING: Final = st.sampled_from(
    [_raw(f"{LEASE}/LeaseTimeToLive", messages.LeaseTimeToLiveRequest(ID=id)) for id in (*LEASES, 4)]
)
"""What is left of leases, without their keys: those 3.4 shows to everybody."""


def nests(step: Step) -> bool:
    """Whether it is a transaction that holds another: what that puts, an etcd that is full takes."""
    return isinstance(step, Txn) and any(isinstance(each, Txn) for each in (*step.success, *step.failure))


def _plain(step: Step) -> bool:
    """Without what this store judges more strictly than etcd on purpose: see docs/raftstore.md, "Errors"."""
    match step:
        case Put():
            return not step.prev_kv
        case Range() | DeleteRange() | Compare():
            # A range that is empty since it ends before it begins is nobody's, but etcd lets some have it.
            return step.range_end in (b"", ALL_KEYS_END) or step.key < step.range_end
        case Txn():
            operations = (*step.compares, *step.success, *step.failure)
            return all(not isinstance(each, Txn) and _plain(each) for each in operations)
    return True


def _minds_no_token(step: Step) -> bool:
    return isinstance(step, Raw) and step.path in (f"{AUTH}/Authenticate", f"{LEASE}/LeaseTimeToLive")


PERMITTED: Final = st.tuples(
    st.sampled_from(["ada", "ada", "bob", "root", "", "nobody"]),
    st.sampled_from([REQUESTS] * 12 + [AUTH_REQUESTS] * 4 + [PAGES, LOG_INS, NO_MEMBER, REMAINING])
    .flatmap(lambda strategy: strategy)
    .filter(_plain),
).filter(lambda pair: pair != ("", UserGet("")) and not (pair[0] == "nobody" and _minds_no_token(pair[1])))
"""Who asks for what: with the token of a user, with none, or with one that never was.

No looks: etcd 3.4 shows leases to whoever asks, and of its maintenance lets errors out as they are.
Not nobody asking for the user without a name: etcd takes the two for the same and looks for it.
Nor a token that never was where it makes a difference: 3.4 minds it at a log-in, 3.5 (etcd#12165) and we do
not; with what is left of a lease only we do.
"""


def unary(step: Step, revision: int) -> tuple[str, Any]:
    """Path and message of a step that is one call, at a store that is at `revision`."""
    if isinstance(step, Raw):
        return step.path, step.request
    request = placed(step, revision)
    if isinstance(request, Compact):
        # Physically takes a real etcd a tenth of a second.
        return f"{KV}/Compact", messages.CompactionRequest(revision=request.revision)
    route = ROUTES[type(request)]
    return route.path, route.request(request)


def _without_times(response: Any) -> None:
    response.TTL = min(response.TTL, 1)
    response.keys.sort()


def _sorted_leases(response: Any) -> None:
    response.leases.sort(key=lambda lease: lease.ID)


def _without_hash(response: Any) -> None:
    response.hash = 0
    # Without any compaction etcd says -1.
    response.compact_revision = max(0, response.compact_revision)


def _without_token(response: Any) -> None:
    response.token = ""


def _without_revision(response: Any) -> None:
    # Of alarms etcd 3.4 tells no revision; 3.5 does.
    response.header.ClearField("revision")


_MASKS: Final[dict[str, Callable[[Any], None]]] = {
    "LeaseTimeToLiveResponse": _without_times,
    "LeaseLeasesResponse": _sorted_leases,
    "HashKVResponse": _without_hash,
    "AlarmResponse": _without_revision,
    "AuthenticateResponse": _without_token,
}


def masked(answer: Any) -> Any:
    """What of an answer, or of a failed call, is the same at every cluster that did the same."""
    if isinstance(answer, RpcError):
        return answer.code.name, answer.message
    copy = type(answer)()
    copy.CopyFrom(answer)
    for name in ("cluster_id", "member_id", "raft_term"):
        copy.header.ClearField(name)
    mask = _MASKS.get(type(copy).__name__)
    if mask is not None:
        mask(copy)
    return copy
