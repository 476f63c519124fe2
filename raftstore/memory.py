"""The store as a single actor in memory: the same state machine, and nothing between it and its clients."""

from collections.abc import Callable

from attrs import frozen

from understudy.actors import Actor, handles
from understudy.mailbox import Message, message
from understudy.raftstore.feeds import Feeds
from understudy.raftstore.machine import StateMachine, is_write, size_bytes
from understudy.raftstore.member import ETCD_VERSION, ROUNDING_S
from understudy.raftstore.options import GroupOptions
from understudy.raftstore.serving import serving
from understudy.raftstore.storage import (
    Compact,
    DeleteRange,
    HashKV,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseList,
    LeaseRevoke,
    LeaseTimeToLive,
    OpenWatch,
    Put,
    Range,
    RequestProgress,
    RequestTooLarge,
    Status,
    StatusReply,
    Storage,
    StorageRequest,
    Txn,
    WatchOpened,
)


@message("etcd.expire-leases")
@frozen
class ExpireLeases(Message[Storage]):
    """The store's own timer: some lease may be over."""


class MemoryStore(Actor[Storage]):
    def __init__(self, machine: StateMachine, max_request_bytes: int) -> None:
        """`machine` outlives an incarnation: what was answered stays true after a restart."""
        self.machine = machine
        self.max_request_bytes = max_request_bytes

    async def on_start(self) -> None:
        self._feeds = Feeds(self.context, self.machine)
        self.machine.start_leases(self.world.monotonic())
        self._armed_s = float("inf")
        self._arm_timer()

    _range = serving(Range)
    _put = serving(Put)
    _delete_range = serving(DeleteRange)
    _txn = serving(Txn)
    _compact = serving(Compact)
    _lease_grant = serving(LeaseGrant)
    _lease_revoke = serving(LeaseRevoke)
    _lease_keep_alive = serving(LeaseKeepAlive)
    _lease_time_to_live = serving(LeaseTimeToLive)
    _lease_list = serving(LeaseList)
    _request_progress = serving(RequestProgress)
    _status = serving(Status)
    _hash_kv = serving(HashKV)

    def serve(self, request: StorageRequest) -> object:
        """Answer a request. Raises a `StorageError`."""
        size = size_bytes(request)
        if size > self.max_request_bytes:
            raise RequestTooLarge(size, self.max_request_bytes)
        if isinstance(request, Status):
            return self._status_reply()
        now_s = self.world.monotonic()
        if is_write(request):
            answer, woken = self.machine.run(request)
            self.machine.follow_leases(request, answer, now_s)
            self._feeds.wake(woken)
        else:
            answer = self.machine.read(request, now_s)
            if isinstance(request, RequestProgress):
                self._feeds.wake_all()
        self._arm_timer()
        if answer.refusal is not None:
            raise answer.refusal
        return answer.reply

    @handles(OpenWatch)
    def on_open_watch(self, request: OpenWatch) -> WatchOpened:
        return self._feeds.open(request.watch, request.to)

    def _status_reply(self) -> StatusReply:
        store = self.machine.store
        return StatusReply(
            revision=store.revision,
            version=ETCD_VERSION,
            member=1,
            leader=1,
            term=1,
            commit_index=store.revision,
            applied_index=store.revision,
            compact_revision=store.compact_revision,
            size_bytes=store.keys.size_bytes,
        )

    def _arm_timer(self) -> None:
        due_s = self.machine.clock.next_deadline_s()
        now_s = self.world.monotonic()
        if due_s is not None and (due_s < self._armed_s or self._armed_s <= now_s):
            self._armed_s = due_s
            self.context.set_timer("leases", due_s - now_s + ROUNDING_S, ExpireLeases())

    @handles(ExpireLeases)
    def on_expire_leases(self, request: ExpireLeases) -> None:
        for lease in self.machine.clock.take_over(self.world.monotonic(), retry_s=1.0):
            _, woken = self.machine.run(LeaseRevoke(lease))
            self.machine.clock.forget(lease)
            self._feeds.wake(woken)
        self._armed_s = float("inf")
        self._arm_timer()


def memory_store(max_request_bytes: int = GroupOptions().max_request_bytes) -> Callable[[], Actor[Storage]]:
    """A factory for a store in memory, which lives as long as the factory is kept."""
    machine = StateMachine()
    return lambda: MemoryStore(machine, max_request_bytes)
