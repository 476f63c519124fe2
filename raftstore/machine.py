"""The replicated state machine: the MVCC store, who already got which answer, the watches on it. Sans I/O.

A router that heard nothing about a command may send it again. So that it is done once, commands are numbered
within a *session*, and the machine remembers the answers that a router has not confirmed yet (thesis §6.3).
"""

import zlib
from collections.abc import Generator
from typing import Any, Final, get_args

from attrs import define, evolve, field

from understudy.mailbox import encode
from understudy.raftstore.alarms import Alarms, room_needed
from understudy.raftstore.authorization import check_auth_revision, check_permission
from understudy.raftstore.cluster import Cluster
from understudy.raftstore.mvcc import MutatingRequest, MvccStore, finished
from understudy.raftstore.options import StoreOptions
from understudy.raftstore.sessions import Answer as Answer
from understudy.raftstore.sessions import Command as Command
from understudy.raftstore.sessions import Session, SessionState, memorable
from understudy.raftstore.snapshot import MachineSnapshot
from understudy.raftstore.storage import (
    Alarm,
    AlarmReply,
    AssignToken,
    AsUser,
    AuthenticateReply,
    AuthReply,
    AuthStatus,
    AuthStatusReply,
    AuthWrite,
    Compact,
    DeleteRange,
    EmptyKey,
    Hash,
    HashKV,
    HashKVReply,
    HashReply,
    LeaseKeepAlive,
    LeaseKeepAliveReply,
    LeaseList,
    LeaseNotFound,
    LeaseTimeToLive,
    LeaseTimeToLiveReply,
    PasswordHash,
    PasswordHashReply,
    ProgressReply,
    Put,
    Range,
    RequestProgress,
    RequestTooLarge,
    RoleGet,
    RoleGetReply,
    RoleList,
    RoleListReply,
    Status,
    StatusReply,
    StorageError,
    Txn,
    Unavailable,
    UserGet,
    UserGetReply,
    UserList,
    UserListReply,
    Watch,
)
from understudy.raftstore.storage.cluster import (
    ClusterChange,
    MemberAdd,
    MemberAddReply,
    MemberPromote,
    MemberPublish,
    MemberRemove,
    MembersReply,
    MemberUpdate,
)
from understudy.raftstore.timing import Timing
from understudy.raftstore.transaction import check_shape
from understudy.raftstore.users import Users
from understudy.raftstore.watch import WatchHub

ETCD_VERSION: Final = "3.5.21"
"""The etcd version whose behaviour this is."""

MVCC_WRITES: Final = get_args(MutatingRequest)
AUTH_WRITES: Final = get_args(AuthWrite)
CLUSTER_CHANGES: Final = get_args(ClusterChange)

SESSIONS_MAX: Final = 64
"""How many sessions are remembered; the one that was silent longest is forgotten first."""

LONG_READS: Final = (HashKV, Hash)
"""They look at every key."""

MUTATING: Final = frozenset((*MVCC_WRITES, *AUTH_WRITES, Alarm, *CLUSTER_CHANGES))


def unwrapped(request: Any) -> Any:
    """What is asked for, whoever asks."""
    return request.request if isinstance(request, AsUser) else request


def is_write(request: Any) -> bool:
    """Whether a request goes through the log. A transaction of reads does too: it is atomic that way."""
    return type(unwrapped(request)) in MUTATING


def is_serializable(request: Any) -> bool:
    """Whether any member may answer a request from what it has applied."""
    asked = unwrapped(request)
    if isinstance(asked, Range):
        return asked.serializable
    return isinstance(asked, (Status, *LONG_READS))


def takes_long(request: Any) -> bool:
    """Whether an answer may take longer than others do: it is given as long as its making goes on."""
    asked = unwrapped(request)
    return isinstance(asked, LONG_READS) or (isinstance(asked, Compact) and asked.physical)


def size_bytes(request: Any) -> int:
    """About what a request weighs."""
    match request:
        case Put():
            return 64 + len(request.key) + len(request.value)
        case Range() | DeleteRange():
            return 64 + len(request.key) + len(request.range_end)
        case Txn():
            compares = sum(
                64 + len(compare.key) + (len(compare.value) if isinstance(compare.value, bytes) else 0)
                for compare in request.compares
            )
            return 64 + compares + sum(map(size_bytes, (*request.success, *request.failure)))
        case AsUser():
            return 64 + len(request.token) + size_bytes(request.request)
        case _:
            return 64


def check_request(request: Any, max_txn_operations: int, max_request_bytes: int) -> None:
    """Refuse what is wrong with a request whatever the state: see `check_shape`; `RequestTooLarge`."""
    asked = unwrapped(request)
    if isinstance(asked, (Put, Range, Txn, DeleteRange)):
        check_shape(asked, max_txn_operations)
        size = size_bytes(request)
        if size > max_request_bytes:
            raise RequestTooLarge(size, max_request_bytes)


@define
class StateMachine:
    options: StoreOptions = field(factory=StoreOptions)
    store: MvccStore = field(init=False)
    users: Users = field(factory=Users)
    alarms: Alarms = field(factory=Alarms)
    cluster: Cluster = field(factory=Cluster)
    sessions: dict[int, Session] = field(factory=dict)
    hub: WatchHub = field(init=False)
    timing: Timing = field(init=False)
    """What is due; kept by the leader alone, empty elsewhere."""

    def __attrs_post_init__(self) -> None:
        self.store = MvccStore(self.options)
        self.hub = WatchHub(self.store)
        self.timing = Timing(self.options)

    # ---------------------------------------------------------------- the log

    def apply(self, command: Command) -> tuple[Answer, list[int], bool]:
        """Do what the log says: the answer, the watches that have something to send now, and whether it was
        done now, and not before, or in vain."""
        if not command.session:
            answer, woken = self.run(command.request, trusted=True)
            return answer, woken, answer.refusal is None
        session = self.sessions.pop(command.session, None) or Session()
        self.sessions[command.session] = session
        if len(self.sessions) > SESSIONS_MAX:
            del self.sessions[next(iter(self.sessions))]
        session.settle(command.settled)
        if command.number < session.settled:
            # Its router has given it up; it must not be done behind the back of what came later.
            return Answer(refusal=Unavailable("the request had been given up")), [], False
        known = session.answers.get(command.number)
        if known is not None:
            return known, [], False
        # Who may change the group was looked at before it was proposed.
        answer, woken = self.run(command.request, trusted=isinstance(command.request, CLUSTER_CHANGES))
        session.answers[command.number] = memorable(answer)
        return answer, woken, answer.refusal is None

    def remembered(self, session: int, number: int) -> Answer | None:
        """What was answered to a command, if it is known."""
        known = self.sessions.get(session)
        return known.answers.get(number) if known is not None else None

    def run(self, request: Any, *, trusted: bool = False) -> tuple[Answer, list[int]]:
        """Do a write. `trusted`: the store's own, which nobody need be allowed."""
        store = self.store
        before = store.revision
        try:
            allowed = unwrapped(request) if trusted else self._let_in(request)
            self.alarms.check(allowed)
            reply = self._write(allowed)
        except StorageError as refused:
            return Answer(refusal=refused), []
        woken: list[int] = []
        if store.revision > before and self.hub.watchers:
            woken = self.hub.changed(store.changes.newest)
        return Answer(reply=reply), woken

    def _write(self, request: Any) -> object:
        store = self.store
        if isinstance(request, MVCC_WRITES):
            return store.apply(request)
        match request:
            case Alarm():
                return AlarmReply(store.revision, self.alarms.apply(request))
            case MemberAdd():
                self.cluster.apply(request)
                members = self.cluster.all()
                return MemberAddReply(store.revision, self.cluster.members[request.id], members)
            case MemberRemove() | MemberUpdate() | MemberPromote() | MemberPublish():
                self.cluster.apply(request)
                return MembersReply(store.revision, self.cluster.all())
            case LeaseKeepAlive():
                # Only where something about the lease is under way in the log, see `through_log`.
                store.keep_alive(request.id)
                return self._kept_alive(request)
            case AssignToken():
                return AuthenticateReply(store.revision, self.users.apply(request))
            case _:
                assert isinstance(request, AUTH_WRITES), request
                self.users.apply(request)
                return AuthReply(store.revision)

    # ---------------------------------------------------------------- who may do what

    def _let_in(self, request: Any) -> Any:
        """The request itself, if whoever makes it may. Raises `AuthError`."""
        users = self.users
        if not users.enabled:
            return unwrapped(request)
        user = ""
        if isinstance(request, AsUser):
            user = users.owner(request.token) if request.token else request.user
            check_auth_revision(request.auth_revision, users)
            request = request.request
        check_permission(request, user, users, self.store.leases)
        return request

    def open_watch(self, watch: Watch) -> int:
        """A new watch; returns its number in the hub. Raises `EmptyKey`, `Compacted`, `AuthError`."""
        if not watch.key:
            raise EmptyKey()
        if self.users.enabled and not watch.granted:
            self._let_in(AsUser(watch, watch.token, watch.user))
        return self.hub.add(watch)

    def open_snapshot(self, request: Any) -> MachineSnapshot:
        """A view for whoever may see everything: an `OpenSnapshot` or what stands for it. Raises
        `AuthError`."""
        self._let_in(AsUser(request, request.token, request.user))
        return self.snapshot()

    # ---------------------------------------------------------------- reads

    def read(self, request: Any, now_s: float) -> Answer:
        """Answer what does not go through the log, from the state as it is."""
        try:
            self.timing.used(request, now_s)
            return Answer(reply=self._read(self._let_in(request), now_s))
        except StorageError as refused:
            return Answer(refusal=refused)

    def reading(self, request: Any, now_s: float) -> Generator[None, None, Answer]:
        """`read` bit by bit, from the state as it is now: of `LONG_READS`."""
        try:
            self.timing.used(request, now_s)
            asked = self._let_in(request)
            work: Generator[None, None, object] = (
                self.store.hashing(asked) if isinstance(asked, HashKV) else self._hashing()
            )
        except StorageError as refused:
            return _done(Answer(refusal=refused))
        return _answered(work)

    def following(self, request: Any, answer: Answer) -> Generator[None, None, Answer] | None:
        """What is still to be done, bit by bit, before a write that was applied is answered, if anything."""
        asked = unwrapped(request)
        if answer.refusal is None and isinstance(asked, Compact) and asked.physical:
            return _after(self.store.pruning(), answer)
        return None

    def _read(self, request: Any, now_s: float) -> object:
        store, users = self.store, self.users
        match request:
            case Range():
                return store.range(request)
            case HashKV():
                return store.hash(request)
            case Hash():
                return finished(self._hashing())
            case LeaseList():
                return store.list_leases(request)
            case LeaseKeepAlive():
                reply = self._kept_alive(request)
                self.timing.leases.start(reply.id, reply.ttl_s, now_s)
                return reply
            case LeaseTimeToLive():
                lease = store.leases.get(request.id)
                if lease is None:
                    raise LeaseNotFound(request.id)
                left_s = self.timing.leases.left_s(lease.id, now_s)
                left_s = lease.ttl_s if left_s is None else int(left_s)
                keys = store.leases.keys(lease.id) if request.keys else ()
                return LeaseTimeToLiveReply(store.revision, lease.id, left_s, lease.ttl_s, keys)
            case RequestProgress():
                self.hub.request_bookmarks()
                return ProgressReply(store.revision)
            case AuthStatus():
                return AuthStatusReply(store.revision, users.enabled, users.revision)
            case UserGet():
                return UserGetReply(store.revision, users.user(request.name).roles)
            case UserList():
                return UserListReply(store.revision, tuple(sorted(users.users)))
            case RoleGet():
                return RoleGetReply(store.revision, users.permissions(request.role))
            case RoleList():
                return RoleListReply(store.revision, tuple(sorted(users.roles)))
            case PasswordHash():
                return PasswordHashReply(store.revision, users.revision, users.password_of(request.name))
            case _:
                raise AssertionError(f"{request} is not a read")

    def _kept_alive(self, request: LeaseKeepAlive) -> LeaseKeepAliveReply:
        lease = self.store.leases.get(request.id)
        if lease is None:
            raise LeaseNotFound(request.id)
        return LeaseKeepAliveReply(self.store.revision, lease.id, lease.ttl_s)

    def _hashing(self) -> Generator[None, None, HashReply]:
        """Over all that is replicated but the sessions, as it is now."""
        store = self.store
        rest = encode(
            [
                tuple(store.leases),
                store.next_lease,
                self.users.state(),
                tuple(self.alarms.raised),
                self.cluster.state(),
            ]
        )
        return _hashed_with(rest, self.store.hashing(HashKV()))

    def status(
        self, member: int, leader: int, term: int, commit_index: int, applied_index: int, is_learner: bool
    ) -> StatusReply:
        """How a member is that knows this of its group."""
        store = self.store
        errors = [f"memberID:{alarm.member} alarm:{alarm.alarm.upper()} " for alarm in self.alarms.raised]
        return StatusReply(
            revision=store.revision,
            version=ETCD_VERSION,
            member=member,
            leader=leader,
            term=term,
            commit_index=commit_index,
            applied_index=applied_index,
            compact_revision=store.compact_revision,
            size_bytes=store.keys.size_bytes,
            in_use_bytes=store.keys.size_bytes,
            quota_bytes=self.options.quota_bytes,
            is_learner=is_learner,
            errors=tuple(errors if leader else ["etcdserver: no leader", *errors]),
        )

    # ---------------------------------------------------------------- at the leader

    def over_quota(self, request: Any) -> bool:
        """Whether a write needs more room than there is: then `nospace` is to be raised."""
        quota = self.options.quota_bytes
        room = room_needed(unwrapped(request)) if quota else 0
        return room > 0 and self.store.keys.size_bytes + room >= quota

    def proposal(self, request: Any, now_s: float) -> Any:
        """A write as it is to be proposed by the leader now: with the state of users on which it came in."""
        if isinstance(request, AsUser):
            self.timing.used(request, now_s)
            if self.users.enabled:
                return evolve(request, auth_revision=self.users.revision)
        return request

    def through_log(self, request: Any) -> bool:
        """Whether a read must be proposed all the same: a keep-alive of a lease about which something is, or
        may be, under way in the log. Its end, which the keep-alive must not overtake; or a checkpoint, which
        would have the next leader end it before the time that the keep-alive promises."""
        request = unwrapped(request)
        if not isinstance(request, LeaseKeepAlive):
            return False
        lease = self.store.leases.get(request.id)
        return lease is not None and (lease.remaining_s > 0 or request.id in self.timing.under_way)

    def start_leading(self, now_s: float) -> None:
        """This member leads now: every lease has what its checkpoint left of it, or its whole time."""
        self.timing = Timing(self.options)
        self.timing.start(self.store.leases, self.users, now_s)

    def stop_leading(self) -> None:
        """This member leads no more."""
        self.timing = Timing(self.options)

    def follow(self, request: Any, answer: Answer, now_s: float) -> None:
        """Keep the leader's clocks in step with a write that was just applied."""
        self.timing.applied(unwrapped(request), answer, now_s)

    # ---------------------------------------------------------------- snapshots

    def snapshot(self) -> MachineSnapshot:
        """The state as it is, in next to no time: a view that does not change whatever is applied later."""
        sessions = tuple(
            SessionState(number, session.settled, tuple(session.answers.items()))
            for number, session in self.sessions.items()
        )
        return MachineSnapshot(
            self.store.fork(), self.users.state(), tuple(self.alarms.raised), sessions, self.cluster.state()
        )

    def restore(self, snapshot: MachineSnapshot | None) -> None:
        """Begin again from a snapshot; None is the state before the first entry. Watches must be gone."""
        assert not self.hub.watchers, list(self.hub.watchers)
        self.sessions = {}
        if snapshot is None:
            self.store, self.users, self.alarms = MvccStore(self.options), Users(), Alarms()
            self.cluster = Cluster()
        else:
            self.store = MvccStore.restore(snapshot.store, self.options)
            self.users = Users.restore(snapshot.users)
            self.alarms = Alarms(dict.fromkeys(snapshot.alarms))
            self.cluster = Cluster.restore(snapshot.cluster)
            for state in snapshot.sessions:
                self.sessions[state.session] = Session(state.settled, dict(state.answers))
        self.hub = WatchHub(self.store, next_id=self.hub.next_id)
        self.timing = Timing(self.options)


def _hashed_with(rest: bytes, work: Generator[None, None, HashKVReply]) -> Generator[None, None, HashReply]:
    keys = yield from work
    return HashReply(keys.revision, zlib.crc32(rest, keys.hash))


def _answered(work: Generator[None, None, object]) -> Generator[None, None, Answer]:
    return Answer(reply=(yield from work))


def _after(work: Generator[None, None, None], answer: Answer) -> Generator[None, None, Answer]:
    yield from work
    return answer


def _done(answer: Answer) -> Generator[None, None, Answer]:
    yield from ()
    return answer
