"""The replicated state machine: the MVCC store, who already got which answer, the watches on it. Sans I/O.

A router that heard nothing about a command may send it again. So that it is done once, commands are numbered
within a *session*, and the machine remembers the answers that a router has not confirmed yet (thesis §6.3).
"""

from typing import Any, Final, TypeGuard

from attrs import define, field

from understudy.raftstore.leases import LeaseClock
from understudy.raftstore.messages import Entry
from understudy.raftstore.mvcc import MutatingRequest, MvccStore
from understudy.raftstore.sessions import Answer as Answer
from understudy.raftstore.sessions import Command as Command
from understudy.raftstore.sessions import Session, SessionState
from understudy.raftstore.snapshot import MachineSnapshot
from understudy.raftstore.storage import (
    Compact,
    DeleteRange,
    HashKV,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseKeepAliveReply,
    LeaseList,
    LeaseNotFound,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseTimeToLiveReply,
    ProgressReply,
    Put,
    Range,
    RequestProgress,
    StorageError,
    StorageRequest,
    Txn,
    Unavailable,
)
from understudy.raftstore.watch import WatchHub

SESSIONS_MAX: Final = 64
"""How many sessions are remembered; the one that was silent longest is forgotten first."""

MUTATING: Final = (Put, DeleteRange, Txn, Compact, LeaseGrant, LeaseRevoke)


def is_write(request: StorageRequest) -> TypeGuard[MutatingRequest]:
    """Whether a request goes through the log. A transaction of reads does too: it is atomic that way."""
    return isinstance(request, MUTATING)


def size_bytes(request: StorageRequest) -> int:
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
        case _:
            return 64


@define
class StateMachine:
    store: MvccStore = field(factory=MvccStore)
    sessions: dict[int, Session] = field(factory=dict)
    hub: WatchHub = field(init=False)
    clock: LeaseClock = field(factory=LeaseClock)
    """Kept by the leader alone; empty elsewhere."""

    def __attrs_post_init__(self) -> None:
        self.hub = WatchHub(self.store)

    # ---------------------------------------------------------------- the log

    def apply(self, entry: Entry) -> tuple[Answer | None, list[int]]:
        """Apply a normal entry: its answer, and the watches that have something to send now."""
        command = entry.data
        if command is None:
            return None, []
        assert isinstance(command, Command), entry
        if not command.session:
            return self.run(command.request)
        session = self.sessions.pop(command.session, None) or Session()
        self.sessions[command.session] = session
        if len(self.sessions) > SESSIONS_MAX:
            del self.sessions[next(iter(self.sessions))]
        session.settle(command.settled)
        if command.number < session.settled:
            # Its router has given it up; it must not be done behind the back of what came later.
            return Answer(refusal=Unavailable("the request had been given up")), []
        answer, woken = session.answers.get(command.number), list[int]()
        if answer is None:
            answer, woken = self.run(command.request)
            session.answers[command.number] = answer
        return answer, woken

    def run(self, request: MutatingRequest) -> tuple[Answer, list[int]]:
        """Do a write."""
        store = self.store
        before = store.revision
        try:
            answer = Answer(reply=store.apply(request))
        except StorageError as refused:
            return Answer(refusal=refused), []
        woken: list[int] = []
        if store.revision > before:
            woken = self.hub.changed(next(store.changes.since(store.revision)))
        return answer, woken

    # ---------------------------------------------------------------- reads

    def read(self, request: StorageRequest, now_s: float) -> Answer:
        """Answer what does not go through the log, from the state as it is."""
        try:
            return Answer(reply=self._read(request, now_s))
        except StorageError as refused:
            return Answer(refusal=refused)

    def _read(self, request: StorageRequest, now_s: float) -> object:
        store = self.store
        match request:
            case Range():
                return store.range(request)
            case HashKV():
                return store.hash(request)
            case LeaseList():
                return store.list_leases(request)
            case LeaseKeepAlive():
                lease = store.leases.get(request.id)
                if lease is None:
                    raise LeaseNotFound(request.id)
                self.clock.start(lease.id, lease.ttl_s, now_s)
                return LeaseKeepAliveReply(store.revision, lease.id, lease.ttl_s)
            case LeaseTimeToLive():
                lease = store.leases.get(request.id)
                if lease is None:
                    raise LeaseNotFound(request.id)
                left_s = int(self.clock.left_s(lease.id, now_s))
                keys = store.leases.keys(lease.id) if request.keys else ()
                return LeaseTimeToLiveReply(store.revision, lease.id, left_s, lease.ttl_s, keys)
            case RequestProgress():
                self.hub.request_bookmarks()
                return ProgressReply(store.revision)
            case _:
                raise AssertionError(f"{request} is not a read")

    # ---------------------------------------------------------------- leases

    def start_leases(self, now_s: float) -> None:
        """This member leads now: every lease has its whole time before it."""
        self.clock = LeaseClock()
        for lease in self.store.leases:
            self.clock.start(lease.id, lease.ttl_s, now_s)

    def stop_leases(self) -> None:
        """This member leads no more."""
        self.clock = LeaseClock()

    def follow_leases(self, request: Any, answer: Answer, now_s: float) -> None:
        """Keep the clock in step with a write that was just applied."""
        if answer.refusal is not None:
            return
        if isinstance(request, LeaseGrant):
            self.clock.start(answer.reply.id, answer.reply.ttl_s, now_s)
        elif isinstance(request, LeaseRevoke):
            self.clock.forget(request.id)

    # ---------------------------------------------------------------- snapshots

    def snapshot(self) -> MachineSnapshot:
        """The state as it is, in next to no time: a view that does not change whatever is applied later."""
        sessions = tuple(
            SessionState(number, session.settled, tuple(session.answers.items()))
            for number, session in self.sessions.items()
        )
        return MachineSnapshot(self.store.fork(), sessions)

    def restore(self, snapshot: MachineSnapshot | None) -> None:
        """Begin again from a snapshot; None is the state before the first entry. Watches must be gone."""
        assert not self.hub.watchers, list(self.hub.watchers)
        self.store = MvccStore() if snapshot is None else MvccStore.restore(snapshot.store)
        self.sessions = {}
        for state in snapshot.sessions if snapshot is not None else ():
            self.sessions[state.session] = Session(state.settled, dict(state.answers))
        self.hub = WatchHub(self.store, next_id=self.hub.next_id)
        self.clock = LeaseClock()
