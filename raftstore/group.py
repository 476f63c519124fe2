"""A store replicated by a Raft group: one actor that is a `Storage` to its clients and a supervisor to its
members.

It sends each request to the leader, and sends it again when there is another: members remember what they
answered within its session, so that a write is done once however often it was sent. A watch goes on at the
next leader from the last revision that its reader got.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, evolve

from understudy.actors import (
    TRANSIENT,
    Actor,
    ActorFailed,
    ActorStopped,
    AskTimeout,
    ChannelReader,
    ChannelWriter,
    EndOfChannel,
    Event,
    Ref,
    Terminated,
    handles,
)
from understudy.mailbox import ChannelClosed, MailboxFull
from understudy.raftstore.machine import Answer, is_serializable, is_write, size_bytes
from understudy.raftstore.member import Member
from understudy.raftstore.memberlog import MemberLog, VolatileLog
from understudy.raftstore.membership import (
    LeaderNews,
    LocateLeader,
    MemberGaveUp,
    Membership,
    Outcomes,
    ServeWatch,
    StartMember,
    StopMember,
    Submission,
    Submit,
)
from understudy.raftstore.options import GroupOptions
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.serving import ServingAside
from understudy.raftstore.storage import (
    AsUser,
    DeleteRange,
    NotLeader,
    OpenWatch,
    Put,
    Range,
    RequestTooLarge,
    Storage,
    StorageError,
    Txn,
    Unavailable,
    Watch,
    WatchOpened,
)
from understudy.raftstore.transaction import check_shape
from understudy.raftstore.wal.logs import DiskLogs

MAILBOX_CAPACITY = 65_536
"""Of members and router: what they are sent is bounded by the requests under way and by the inflight
windows."""


@define(eq=False)
class Pending:
    """A request that is not answered yet."""

    number: int
    request: Any
    settled: Event
    answer: Answer | None = None
    member: int = 0
    """Who has it; 0 for nobody."""
    submitted: bool = False
    """Somebody has had it."""
    bounces: int = 0
    """How often it came back since anything was heard of a leader."""

    @property
    def anywhere(self) -> bool:
        """Any member may answer it."""
        return is_serializable(self.request)


class Group(ServingAside, Actor[Storage]):
    def __init__(
        self, logs: Sequence[MemberLog] | DiskLogs, hosts: Sequence[str] | None, options: GroupOptions
    ) -> None:
        """`logs` are the members' disks, in order of their ids from 1; `hosts` where each of them lives."""
        self._disk_logs = logs if isinstance(logs, DiskLogs) else None
        self.logs: Sequence[MemberLog] = [] if isinstance(logs, DiskLogs) else logs
        self.hosts = hosts
        self.options = options
        self.bcrypt_cost = options.member.store.bcrypt_cost
        self.leader = 0
        self.term = 0
        self._members: dict[int, Ref[Membership]] = {}
        self._running: dict[int, bool] = {}
        self._gave_up: dict[int, str] = {}
        """Why members stopped by themselves."""
        self._pending: dict[int, Pending] = {}
        """By number, ascending."""
        self._outbox: dict[int, list[Pending]] = {}
        self._next_number = 1
        self._turn = 0
        self._probing = False
        self._relays: list[tuple[ChannelWriter[Any], Callable[[], None]]] = []
        self._sweep_at = 16

    async def on_start(self) -> None:
        self._session = self.world.rng(f"session {self.context.path}").getrandbits(62) | 1
        self._flush = self.world.signal(f"{self.context.path} outbox")
        if self._disk_logs is not None:
            hosts = self.hosts or [self.context.host] * self.options.members
            self.logs = self._disk_logs.logs(self.world, hosts)
        for member in range(1, len(self.logs) + 1):
            self._start(member)
        self.context.start_soon(self._send)

    def _start(self, member: int) -> None:
        log = self.logs[member - 1]

        def factory() -> Actor[Membership]:
            return Member(member, log, self._members, self.context.self, self.options.member)

        ref = self.context.spawn(
            factory,
            f"member-{member}",
            TRANSIENT,
            host=self.hosts[member - 1] if self.hosts is not None else None,
            capacity=MAILBOX_CAPACITY,
        )
        self._members[member] = ref
        self._running[member] = True
        self._gave_up.pop(member, None)
        self.context.watch(ref)

    # ---------------------------------------------------------------- requests

    async def serve(self, request: Any) -> Any:
        """Have a request answered by the member that can. Raises a `StorageError`."""
        asked = request.request if isinstance(request, AsUser) else request
        if isinstance(asked, Range | Put | DeleteRange | Txn):
            check_shape(asked, self.options.member.store.max_txn_operations)
            size = size_bytes(request)
            if size > self.options.max_request_bytes:
                raise RequestTooLarge(size, self.options.max_request_bytes)
        pending = Pending(self._next_number, request, self.world.event(f"request {self._next_number}"))
        self._next_number += 1
        self._pending[pending.number] = pending
        try:
            await self._wait(pending)
        finally:
            del self._pending[pending.number]
        answer = pending.answer
        if answer is None:
            raise self._unavailable(pending)
        if answer.refusal is not None:
            raise answer.refusal
        return answer.reply

    async def _wait(self, pending: Pending) -> None:
        """Return when a request is answered, or when its time is over."""
        left_s = self.options.request_timeout_seconds
        while left_s > 0 and pending.answer is None:
            self._route(pending)
            with self.world.limit(min(left_s, self.options.retry_seconds)):
                await pending.settled.wait()
            left_s -= self.options.retry_seconds

    def _unavailable(self, pending: Pending) -> Unavailable:
        running = sum(self._running.values())
        reason = f"no answer within {self.options.request_timeout_seconds:g} s"
        if 2 * running <= len(self._members):
            reason = f"{running} of {len(self._members)} members run, which is no majority"
            reason += "".join(f"; member {member}: {why}" for member, why in sorted(self._gave_up.items()))
        elif not self.leader:
            reason = f"no leader within {self.options.request_timeout_seconds:g} s"
        return Unavailable(reason, maybe_applied=pending.submitted and is_write(pending.request))

    def _route(self, pending: Pending) -> None:
        """Give a request to the leader, or keep it until there is one."""
        pending.member = 0
        running = [member for member, runs in self._running.items() if runs]
        if 2 * len(running) <= len(self._members) and not (pending.anywhere and running):
            self._settle(pending, Answer(refusal=self._unavailable(pending)))
        elif self.leader and self._running[self.leader]:
            self._post(pending, self.leader)
        elif pending.anywhere:
            self._post(pending, running[pending.number % len(running)])
        else:
            self._probe_later()

    def _post(self, pending: Pending, member: int) -> None:
        pending.member = member
        pending.submitted = True
        self._outbox.setdefault(member, []).append(pending)
        self._flush.set()

    def _settle(self, pending: Pending, answer: Answer) -> None:
        if pending.answer is None:
            pending.answer = answer
            pending.settled.set()

    async def _send(self) -> None:
        """Whatever came in meanwhile goes to its member in one message."""
        while True:
            await self._flush.wait()
            outbox, self._outbox = self._outbox, {}
            settled = next(iter(self._pending), self._next_number)
            for member, batch in outbox.items():
                submissions = tuple(
                    Submission(pending.number, pending.request)
                    for pending in batch
                    if pending.member == member and pending.answer is None
                )
                try:
                    self._members[member].tell(Submit(self._session, settled, submissions, self.context.self))
                except MailboxFull:
                    for pending in batch:
                        pending.member = 0
                    self._probe_later()

    def _probe_later(self) -> None:
        if not self._probing:
            self._probing = True
            self.world.call_later(self.options.probe_seconds, self._probe, f"{self.context.path} probe")

    def _probe(self) -> None:
        """No news of a leader: ask the next member, whose refusal tells more."""
        self._probing = False
        running = [member for member, runs in self._running.items() if runs]
        if not running:
            return
        self._turn += 1
        for pending in self._pending.values():
            if not pending.member and pending.answer is None:
                pending.bounces = 0
                self._post(pending, self.leader or running[self._turn % len(running)])

    # ---------------------------------------------------------------- news of members

    @handles(Outcomes)
    def on_outcomes(self, outcomes: Outcomes) -> None:
        if outcomes.session != self._session:
            return
        for outcome in outcomes.outcomes:
            pending = self._pending.get(outcome.number)
            if pending is None:
                continue
            refusal = outcome.answer.refusal
            if not isinstance(refusal, NotLeader):
                self._settle(pending, outcome.answer)
            elif pending.member == outcomes.member:
                self._bounced(pending, outcomes.member, refusal.leader)

    def _bounced(self, pending: Pending, member: int, hint: int) -> None:
        """A member does not lead. Follow its hint, but not in a circle."""
        if self.leader == member:
            self.leader = hint if hint != member else 0
        pending.member = 0
        pending.bounces += 1
        target = self.leader or hint
        if target and target != member and self._running.get(target) and pending.bounces < 3:
            self._post(pending, target)
        else:
            self._probe_later()

    @handles(LeaderNews)
    def on_leader_news(self, news: LeaderNews) -> None:
        if news.leader == 0:
            if news.member == self.leader:
                self.leader = 0
            return
        if news.term < self.term or not self._running.get(news.leader):
            return
        new = (news.term, news.leader) != (self.term, self.leader)
        self.term, self.leader = news.term, news.leader
        if new:
            for pending in self._pending.values():
                if pending.answer is None and not pending.anywhere:
                    # Its session makes it safe to send again what the last leader may have taken.
                    pending.bounces = 0
                    self._route(pending)

    @handles(Terminated)
    def on_terminated(self, notice: Terminated) -> None:
        for member, ref in self._members.items():
            if ref.path == notice.path:
                self._lost(member, final=notice.final)

    def _lost(self, member: int, final: bool) -> None:
        self._running[member] = not final
        if self.leader == member:
            self.leader = 0
        for pending in list(self._pending.values()):
            if pending.answer is None and (pending.member in (0, member) or final):
                self._route(pending)

    @handles(MemberGaveUp)
    def on_member_gave_up(self, news: MemberGaveUp) -> None:
        self._gave_up[news.member] = news.reason

    @handles(StopMember, concurrent=True)
    async def on_stop_member(self, request: StopMember) -> None:
        await self.context.stop(self._members[request.member])

    @handles(StartMember)
    def on_start_member(self, request: StartMember) -> None:
        if not self._running[request.member]:
            self._start(request.member)

    @handles(LocateLeader)
    def on_locate_leader(self, request: LocateLeader) -> int:
        return self.leader

    # ---------------------------------------------------------------- watches

    @handles(OpenWatch, concurrent=True)
    async def on_open_watch(self, request: OpenWatch) -> WatchOpened:
        reader: ChannelReader[Any] | None = None
        with self.world.limit(self.options.request_timeout_seconds):
            reader, opened = await self._open(request.watch, request.to.label)
        if reader is None:
            raise Unavailable("no leader to watch at")
        self.context.adopt(request.to)
        next_revision = request.watch.start_revision or opened.revision + 1
        watch = evolve(request.watch, start_revision=next_revision, granted=True)
        cancel = self.context.start_soon(self._relay, watch, reader, request.to)
        self._sweep()
        self._relays.append((request.to, cancel))
        return opened

    def _sweep(self) -> None:
        """End relays whose readers are gone: they would notice only with the next change."""
        if len(self._relays) >= self._sweep_at:
            for to, cancel in self._relays:
                if to.finished:
                    cancel()
            self._relays = [(to, cancel) for to, cancel in self._relays if not to.finished]
            self._sweep_at = 2 * len(self._relays) + 16

    async def _open(self, watch: Watch, label: str) -> tuple[ChannelReader[Any], WatchOpened]:
        """Have the leader, as soon as there is one, serve a watch."""
        while True:
            leader = self.leader
            if leader:
                writer, reader = self.context.channel(label)
                try:
                    return reader, await self._members[leader].ask(ServeWatch(watch, writer))
                except (NotLeader, ActorStopped, ActorFailed, AskTimeout):
                    reader.cancel()
                except BaseException:
                    reader.cancel()
                    raise
            await self.world.sleep(self.options.probe_seconds, "watch waits for a leader")

    async def _relay(self, watch: Watch, reader: ChannelReader[Any], to: ChannelWriter[Any]) -> None:
        """Pass on what a member sends; when it ends, go on at another."""
        next_revision = watch.start_revision
        try:
            while True:
                try:
                    batch = await reader.receive()
                except (EndOfChannel, ActorStopped):
                    reader, _ = await self._open(evolve(watch, start_revision=next_revision), to.label)
                    continue
                await to.send(batch)
                next_revision = max(next_revision, batch.revision + 1)
        except ChannelClosed:
            pass  # Its reader has seen enough.
        except Exception as error:
            to.close(error)
            if not isinstance(error, StorageError):
                raise
        finally:
            reader.cancel()


def raft_group(
    options: GroupOptions | None = None,
    hosts: Sequence[str] | None = None,
    disk_logs: DiskLogs | None = None,
) -> Callable[[], Actor[Storage]]:
    """A factory for a group whose members keep their logs on disks; or, without any, in memory for as long as
    the factory is kept.

    Spawn it as `spawn(raft_group(), "etcd")`; the members are its children `member-1`, `member-2`, ...
    """
    options = options or GroupOptions()
    if disk_logs is not None:
        return lambda: Group(disk_logs, hosts, options)
    members = range(1, options.members + 1)
    bootstrap = PersistentState.bootstrap(members)
    logs: list[MemberLog] = [VolatileLog.holding(bootstrap) for _ in members]
    return lambda: Group(logs, hosts, options)
