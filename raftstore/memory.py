"""The store as a single actor in memory: the same state machine, and nothing between it and its clients."""

from collections.abc import Callable, Generator
from inspect import isawaitable
from typing import Any, Final, NoReturn

from attrs import frozen

from understudy.actors import Actor, Deferred, handles
from understudy.mailbox import Message, message
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.feeds import Feeds
from understudy.raftstore.machine import LONG_READS, Answer, StateMachine, check_request, is_write, unwrapped
from understudy.raftstore.messages import Snapshot
from understudy.raftstore.options import GroupOptions, StoreOptions
from understudy.raftstore.saving import send_snapshot
from understudy.raftstore.serving import Serving
from understudy.raftstore.storage import (
    Alarm,
    NoSpace,
    OpenSnapshot,
    OpenWatch,
    RequestProgress,
    Status,
    StatusReply,
    Storage,
    WatchOpened,
)
from understudy.raftstore.storage.cluster import (
    AwaitLeader,
    ClusterMember,
    Leadership,
    MemberAdd,
    MemberList,
    MemberListReply,
    MemberPromote,
    MemberRemove,
    MembershipError,
    MembershipProblem,
    MemberUpdate,
    MoveLeader,
    MoveLeaderReply,
)
from understudy.raftstore.waking import ROUNDING_S

MEMBER: Final = 1
"""Its id, as that of the only member of a group."""
LEADERSHIP: Final = Leadership(MEMBER, MEMBER, term=1)
"""For ever."""


@message("etcd.expire-leases")
@frozen
class ExpireLeases(Message[Storage]):
    """The store's own timer: some lease may be over."""


def _refusing(request_type: type[Message[Any]]) -> Callable[[Any, Any], Any]:
    """A handler for one kind of change of the members: there is one, always."""

    def refuse(self: Any, request: Any) -> NoReturn:
        if not isinstance(request, MemberAdd) and request.id != MEMBER:
            raise MembershipError("member not found", f"{request.id}")
        problem: MembershipProblem = "re-configuration failed due to not enough started members"
        raise MembershipError(problem, "a store in memory has one member, always")

    return handles(request_type)(refuse)


class MemoryStore(Serving, Actor[Storage]):
    def __init__(self, machine: StateMachine, max_request_bytes: int) -> None:
        """`machine` outlives an incarnation: what was answered stays true after a restart."""
        self.machine = machine
        self.max_request_bytes = max_request_bytes
        self.bcrypt_cost = machine.options.bcrypt_cost

    async def on_start(self) -> None:
        self._feeds = Feeds(self.context, self.machine)
        self.machine.start_leading(self.world.monotonic())
        self._armed_s = float("inf")
        self._arm_timer()

    def serve(self, request: Any) -> Any:
        """Answer a request, or say how it will be answered. Raises a `StorageError`."""
        asked = unwrapped(request)
        check_request(request, self.machine.options.max_txn_operations, self.max_request_bytes)
        if isinstance(asked, Status):
            return self._status_reply()
        now_s = self.world.monotonic()
        if is_write(request):
            if self.machine.over_quota(request):
                self.machine.run(Alarm("activate", MEMBER, "nospace"), trusted=True)
                raise NoSpace()
            answer = self._run(self.machine.proposal(request, now_s), trusted=False)
            rest = self.machine.following(request, answer)
            if rest is not None:
                return self._answer_later(rest)
        elif isinstance(asked, LONG_READS):
            return self._answer_later(self.machine.reading(request, now_s))
        else:
            answer = self.machine.read(request, now_s)
            if isinstance(asked, RequestProgress):
                self._feeds.wake_all()
        self._arm_timer()
        return _reply(answer)

    async def serve_aside(self, request: Any) -> Any:
        """As `serve`, and wait for what takes long."""
        answer = self.serve(request)
        return await answer if isawaitable(answer) else answer

    async def _answer_later(self, work: Generator[None, None, Answer]) -> Any:
        """Do what takes long between everything else."""
        while True:
            try:
                next(work)
            except StopIteration as end:
                return _reply(end.value)
            await self.world.sleep(0.0, f"{self.context.path} long work")

    @handles(OpenWatch)
    def on_open_watch(self, request: OpenWatch) -> WatchOpened:
        return self._feeds.open(request.watch, request.to)

    @handles(OpenSnapshot)
    def on_open_snapshot(self, request: OpenSnapshot) -> None:
        view = self.machine.open_snapshot(request)
        snapshot = Snapshot(self.machine.store.revision, 1, Configuration(voters=(MEMBER,)), view)
        send_snapshot(self.context, snapshot, request.to)

    # ---------------------------------------------------------------- a group of one, for good

    @handles(MemberList)
    def on_member_list(self, request: MemberList) -> MemberListReply:
        return MemberListReply(self.machine.store.revision, (ClusterMember(MEMBER, "memory"),))

    _member_add = _refusing(MemberAdd)
    _member_remove = _refusing(MemberRemove)
    _member_update = _refusing(MemberUpdate)
    _member_promote = _refusing(MemberPromote)

    @handles(MoveLeader)
    def on_move_leader(self, request: MoveLeader) -> MoveLeaderReply:
        if request.target != MEMBER:
            raise MembershipError("bad leader transferee", f"member {request.target} is not a voter")
        return MoveLeaderReply(self.machine.store.revision, MEMBER)

    @handles(AwaitLeader)
    def on_await_leader(self, request: AwaitLeader) -> Deferred[Leadership]:
        waiting: Deferred[Leadership] = Deferred()
        if request.known != LEADERSHIP:
            waiting.answer(LEADERSHIP)
        return waiting

    # ---------------------------------------------------------------- what the time brings

    def _run(self, request: Any, trusted: bool) -> Answer:
        answer, woken = self.machine.run(request, trusted=trusted)
        self.machine.follow(request, answer, self.world.monotonic())
        self._feeds.wake(woken)
        return answer

    def _status_reply(self) -> StatusReply:
        revision = self.machine.store.revision
        return self.machine.status(MEMBER, MEMBER, 1, revision, revision, is_learner=False)

    def _arm_timer(self) -> None:
        due_s = self.machine.timing.next_deadline_s()
        now_s = self.world.monotonic()
        if due_s is not None and (due_s < self._armed_s or self._armed_s <= now_s):
            self._armed_s = due_s
            self.context.set_timer("leases", max(0.0, due_s - now_s) + ROUNDING_S, ExpireLeases())

    @handles(ExpireLeases)
    def on_expire_leases(self, request: ExpireLeases) -> None:
        for due in self.machine.timing.due(self.world.monotonic(), retry_s=1.0):
            self._run(due, trusted=True)
        self._armed_s = float("inf")
        self._arm_timer()


def _reply(answer: Answer) -> Any:
    if answer.refusal is not None:
        raise answer.refusal
    return answer.reply


def memory_store(
    max_request_bytes: int = GroupOptions().max_request_bytes, options: StoreOptions | None = None
) -> Callable[[], Actor[Storage]]:
    """A factory for a store in memory, which lives as long as the factory is kept."""
    machine = StateMachine(options or StoreOptions())
    return lambda: MemoryStore(machine, max_request_bytes)
