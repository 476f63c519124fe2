"""A member of a Raft group as an actor: it drives the core, keeps the log durable and applies it to the
store.

Handlers only put things into the core; one task, the *driver*, does what comes out of it. However many
messages came in meanwhile, they share one `Ready`, one write to the log and one message to each of the
others.
"""

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from attrs import evolve, frozen

from understudy.actors import Actor, Ref, handles
from understudy.mailbox import MailboxFull
from understudy.raftstore.feeds import Feeds
from understudy.raftstore.machine import (
    Answer,
    Command,
    StateMachine,
    is_serializable,
    is_write,
    size_bytes,
    unwrapped,
)
from understudy.raftstore.memberlog import MemberLog
from understudy.raftstore.membership import (
    HandOver,
    LeaderNews,
    MemberGaveUp,
    Membership,
    Outcome,
    Outcomes,
    Packet,
    ServeWatch,
    Submit,
)
from understudy.raftstore.messages import (
    Entry,
    Heartbeat,
    HeartbeatReply,
    ReadToken,
    Snapshot,
    SnapshotRequest,
)
from understudy.raftstore.messages import Message as RaftMessage
from understudy.raftstore.options import MemberOptions
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import NotLeading, ProposalRefused, Ready
from understudy.raftstore.snapshot import MachineSnapshot, PackedSnapshot
from understudy.raftstore.storage import (
    Alarm,
    NoSpace,
    NotLeader,
    RequestProgress,
    Status,
    StatusReply,
    Storage,
    Unavailable,
    WatchOpened,
)
from understudy.raftstore.wal.errors import StoreFolderError

log = logging.getLogger("understudy.raftstore")

FULL_ROUTER_S = 0.01
"""Answers wait so long for room in their router's mailbox."""
ROUNDING_S = 1e-6
"""Timers are this late: one that fires a rounding error too early would find nothing due, for ever."""


@frozen
class Waiting:
    """Somebody waits for an answer."""

    router: Ref[Storage]
    session: int
    number: int
    request: Any
    term: int = 0
    """Of a proposal: the term of its entry."""


class Member(Actor[Membership]):
    def __init__(
        self,
        member: int,
        disk: MemberLog,
        peers: Mapping[int, Ref[Membership]],
        router: Ref[Storage],
        options: MemberOptions,
    ) -> None:
        """`peers` may be filled later, with every member's ref by its id."""
        self.member = member
        self.disk = disk
        self.peers = peers
        self.router = router
        self.options = options
        self.machine = StateMachine(options.store)
        self._proposals: dict[int, Waiting] = {}
        """By index of the entry."""
        self._reads: dict[ReadToken, list[Waiting]] = {}
        """Reads without an index yet ..."""
        self._indexed_reads: list[tuple[int, list[Waiting]]] = []
        """... and those whose index is not applied yet."""
        self._outcomes: dict[tuple[Ref[Storage], int], list[Outcome]] = {}
        self._known_leader = (0, 0)
        self._armed_s = float("inf")
        self._taken: Ready | None = None
        """Taken out of the core by a handler, for the driver to do."""
        self._unsynced: deque[Ready] = deque()
        """Taken by the driver, and not durable yet, in order."""
        self._compacting = False
        self._gave_up = False

    async def on_start(self) -> None:
        try:
            persistent = await self.disk.open()
        except StoreFolderError as error:
            self._give_up(error)
            return
        self._work = self.world.signal(f"{self.context.path} work")
        random = self.world.rng(f"raft {self.context.path}")
        self.raft = Raft(self.member, persistent, self.options.raft, random, self._now_ms())
        self.machine.restore(_unpacked(persistent.snapshot.data))
        self._feeds = Feeds(self.context, self.machine)
        self._to_write = self.world.signal(f"{self.context.path} log")
        self.context.start_soon(self._drive)
        self.context.start_soon(self._persist)
        self._work.set()

    async def on_stop(self) -> None:
        await self.disk.close()

    def _give_up(self, error: StoreFolderError) -> None:
        """Stop, for good: from here on nothing can be made durable, so that nothing may be acknowledged."""
        self._gave_up = True
        log.error("member %d stops: %s", self.member, error)
        try:
            self.router.tell(MemberGaveUp(self.member, str(error)))
        except MailboxFull:
            log.warning("member %d: the router's mailbox is full", self.member)
        self.context.stop_self()

    def _now_ms(self) -> float:
        return self.world.monotonic() * 1000.0

    # ---------------------------------------------------------------- what comes in

    @handles(Packet)
    def on_packet(self, packet: Packet) -> None:
        if self._gave_up:
            return
        self.raft.advance_clock(self._now_ms())
        for message in packet.messages:
            self.raft.step(message)
        if self._unsynced or self._taken is not None or not _only_heartbeats(packet):
            self._work.set()
            return
        # All that an idle group does: not worth a turn of the driver's.
        ready = self.raft.ready()
        if ready.only_messages:
            self._send(ready.messages)
            self._send(ready.messages_after_sync)
        else:
            self._taken = ready
        if self._taken is not None or self._known_leader != (self.raft.term, self.raft.leader):
            self._work.set()

    @handles(Submit)
    def on_submit(self, submit: Submit) -> None:
        if self._gave_up:
            return
        self.raft.advance_clock(self._now_ms())
        linearizable: list[Waiting] = []
        for submission in submit.submissions:
            request = submission.request
            waiting = Waiting(submit.to, submit.session, submission.number, request)
            if is_write(request) or self.machine.through_log(request):
                self._propose(waiting, submit.settled)
            elif isinstance(unwrapped(request), Status):
                self._answer(waiting, Answer(reply=self._status()))
            elif is_serializable(request):
                self._answer(waiting, self.machine.read(request, self.world.monotonic()))
            else:
                linearizable.append(waiting)
        if linearizable:
            self._read_index(linearizable)
        self._work.set()

    def _propose(self, waiting: Waiting, settled: int) -> None:
        """Propose a client's request. `settled`: see `Command`; 0 where it is not known."""
        if self.raft.leadership is not None and self.machine.over_quota(waiting.request):
            self._propose_own(Alarm("activate", self.member, "nospace"))
            self._answer(waiting, Answer(refusal=NoSpace()))
            return
        request = self.machine.proposal(waiting.request, self.world.monotonic())
        command = Command(waiting.session, waiting.number, settled, request)
        try:
            index = self.raft.propose(command, size_bytes(request))
        except NotLeading as error:
            self._answer(waiting, Answer(refusal=NotLeader(error.leader)))
        except ProposalRefused as error:
            self._answer(waiting, Answer(refusal=Unavailable(error.reason)))
        else:
            self._proposals[index] = evolve(waiting, term=self.raft.term)

    def _read_index(self, reads: list[Waiting]) -> None:
        if self.raft.leadership is None:
            # A follower could ask for the index too; but leases and watches are the leader's alone.
            for waiting in reads:
                self._answer(waiting, Answer(refusal=NotLeader(self.raft.leader)))
        else:
            self._reads[self.raft.read_index()] = reads

    @handles(HandOver)
    def on_hand_over(self, request: HandOver) -> None:
        if self._gave_up:
            return
        self.raft.advance_clock(self._now_ms())
        try:
            self.raft.transfer_leadership(request.to)
        except (NotLeading, ProposalRefused) as error:
            log.info("member %d does not hand over to %d: %r", self.member, request.to, error)
        self._work.set()

    @handles(ServeWatch)
    def on_serve_watch(self, request: ServeWatch) -> WatchOpened:
        if self._gave_up or self.raft.leadership is None:
            raise NotLeader(0 if self._gave_up else self.raft.leader)
        return self._feeds.open(request.watch, request.to)

    # ---------------------------------------------------------------- the driver

    async def _drive(self) -> None:
        while True:
            await self._work.wait()
            self.raft.tick(self._now_ms())
            self._end_leases()
            while not (ready := self._take()).empty:
                self._do(ready)
            self._follow_leader()
            self._send_outcomes()
            self._arm_timer()

    def _take(self) -> Ready:
        taken, self._taken = self._taken, None
        return taken if taken is not None else self.raft.ready()

    def _do(self, ready: Ready) -> None:
        self._send(ready.messages)
        if self._unsynced or not self.disk.store(ready):
            # While the disk is busy the core goes on: heartbeats do not wait for it, and what comes
            # meanwhile is written together. What depends on it goes out in order.
            if ready.durable or ready.messages_after_sync:
                self._unsynced.append(ready)
                self._to_write.set()
        else:
            self._synced(ready)
        # What is committed is durable at a majority, whether or not it is so here.
        if ready.snapshot is not None:
            self._restore(ready.snapshot)
        for entry in ready.committed:
            self._apply(entry)
        if ready.committed:
            self.raft.applied(ready.committed[-1].index)
            self._compact()
        for token in ready.lost_reads:
            for waiting in self._reads.pop(token, ()):
                self._answer(waiting, Answer(refusal=NotLeader(self.raft.leader)))
        for state in ready.reads:
            self._indexed_reads.append((state.index, self._reads.pop(state.token)))
        self._answer_reads()

    def _synced(self, ready: Ready) -> None:
        self.raft.persisted(ready)
        self._send(ready.messages_after_sync)

    async def _persist(self) -> None:
        """Write what is to be durable: all that came while the last write took, with one sync."""
        while True:
            await self._to_write.wait()
            while self._unsynced:
                batch = tuple(self._unsynced)
                if self.disk.store(batch[0]):
                    batch = batch[:1]
                else:
                    try:
                        await self.disk.write(batch)
                    except StoreFolderError as error:
                        self._give_up(error)
                        return
                for ready in batch:
                    assert self._unsynced.popleft() is ready
                    self._synced(ready)
                self._work.set()

    def _send(self, messages: tuple[RaftMessage, ...]) -> None:
        packets: dict[int, list[RaftMessage]] = {}
        for message in messages:
            if isinstance(message, SnapshotRequest) and isinstance(message.snapshot.data, MachineSnapshot):
                packed = PackedSnapshot.pack(message.snapshot.data)
                message = evolve(message, snapshot=evolve(message.snapshot, data=packed))
            packets.setdefault(message.to, []).append(message)
        for member, batch in packets.items():
            peer = self.peers.get(member)
            if peer is None:
                continue
            try:
                peer.tell(Packet(tuple(batch)))
            except MailboxFull:
                # As good as lost on the way, and the core is made for that.
                log.warning("member %d: the mailbox of member %d is full", self.member, member)

    def _arm_timer(self) -> None:
        """Wake the driver when the core is due. A timer that is early does no harm, a late one would."""
        due_s = self.raft.deadline_ms / 1000.0
        lease_s = self.machine.timing.next_deadline_s()
        if lease_s is not None:
            due_s = min(due_s, lease_s)
        now_s = self.world.monotonic()
        if due_s < self._armed_s or self._armed_s <= now_s:
            self._armed_s = due_s
            if due_s != float("inf"):
                delay_s = due_s - now_s + ROUNDING_S
                self.world.call_later(delay_s, self._work.set, f"{self.context.path} tick")

    # ---------------------------------------------------------------- the state machine

    def _apply(self, entry: Entry) -> None:
        if entry.kind == "configuration":
            self.raft.apply_configuration(entry)
            return
        answer, woken = self.machine.apply(entry)
        self._feeds.wake(woken)
        if answer is not None and self.raft.leadership is not None:
            self.machine.follow(entry.data.request, answer, self.world.monotonic())
        waiting = self._proposals.pop(entry.index, None)
        if waiting is not None:
            if waiting.term != entry.term:
                # Another leader's entry took its place: it is certain that it was not done.
                answer = Answer(refusal=NotLeader(self.raft.leader))
            assert answer is not None, entry
            self._answer(waiting, answer)

    def _restore(self, snapshot: Snapshot) -> None:
        self._feeds.close_all()
        self.machine.restore(_unpacked(snapshot.data))
        self.raft.applied(snapshot.index)
        for index in [index for index in self._proposals if index <= snapshot.index]:
            # Whether it was done is in the snapshot: the router asks again, and its session tells.
            self._answer(self._proposals.pop(index), Answer(refusal=NotLeader(self.raft.leader)))

    def _compact(self) -> None:
        raft = self.raft
        if self._compacting:
            return
        covered = raft.log.applied_index - raft.log.snapshot.index
        # A snapshot costs time in proportion to the keys: let as many entries go by.
        if covered < max(self.options.snapshot_entries, len(self.machine.store.keys)):
            return
        index = raft.log.applied_index
        term = raft.log.term_at(index)
        if term is None or index > raft.log.stable_index:
            return  # The leader's own snapshot came meanwhile, or the own disk lags behind the others'.
        snapshot = Snapshot(index, term, raft.configuration, self.machine.snapshot())
        self._compacting = True
        self.context.start_soon(self._write_snapshot, snapshot)

    async def _write_snapshot(self, snapshot: Snapshot) -> None:
        """Beside everything else: a large state takes its time."""
        try:
            await self.disk.compact(snapshot)
        except StoreFolderError as error:
            self._give_up(error)
            return
        if snapshot.index > self.raft.log.snapshot.index:
            self.raft.compact(snapshot, self.options.keep_entries)
        self._compacting = False

    def _answer_reads(self) -> None:
        applied = self.raft.log.applied_index
        later: list[tuple[int, list[Waiting]]] = []
        for index, reads in self._indexed_reads:
            if index > applied:
                later.append((index, reads))
                continue
            for waiting in reads:
                if self.machine.through_log(waiting.request):
                    self._propose(waiting, settled=0)
                    continue
                self._answer(waiting, self.machine.read(waiting.request, self.world.monotonic()))
                if isinstance(unwrapped(waiting.request), RequestProgress):
                    self._feeds.wake_all()
        self._indexed_reads = later

    def _status(self) -> StatusReply:
        raft = self.raft
        return self.machine.status(
            self.member,
            raft.leader,
            raft.term,
            raft.log.commit_index,
            raft.log.applied_index,
            self.member in raft.configuration.learners,
        )

    # ---------------------------------------------------------------- leadership and leases

    def _follow_leader(self) -> None:
        known = (self.raft.term, self.raft.leader)
        if known == self._known_leader:
            return
        led = self._known_leader[1] == self.member
        self._known_leader = known
        if self.raft.leadership is not None:
            self.machine.start_leading(self.world.monotonic())
        elif led:
            self.machine.stop_leading()
            # Whoever watches goes on at the next leader, from the last revision that came.
            self._feeds.close_all()
        self._tell_news()

    def _end_leases(self) -> None:
        """Propose what the time brings."""
        if self.raft.leadership is None:
            return
        for request in self.machine.timing.due(self.world.monotonic(), self.options.lease_retry_seconds):
            self._propose_own(request)

    def _propose_own(self, request: Any) -> None:
        """If it is not taken now, it will be proposed again."""
        try:
            self.raft.propose(Command(0, 0, 0, request), size_bytes(request))
        except ProposalRefused:
            log.info("member %d: a proposal of its own was refused", self.member)

    # ---------------------------------------------------------------- what goes out

    def _answer(self, waiting: Waiting, answer: Answer) -> None:
        key = (waiting.router, waiting.session)
        self._outcomes.setdefault(key, []).append(Outcome(waiting.number, answer))

    def _send_outcomes(self) -> None:
        outcomes, self._outcomes = self._outcomes, {}
        for key, batch in outcomes.items():
            router, session = key
            try:
                router.tell(Outcomes(self.member, session, tuple(batch)))
            except MailboxFull:
                self._outcomes[key] = batch
                self.world.call_later(FULL_ROUTER_S, self._work.set, f"{self.context.path} outcomes")

    def _tell_news(self) -> None:
        try:
            self.router.tell(LeaderNews(self.member, *self._known_leader))
        except MailboxFull:
            # It asks around when it hears nothing.
            log.warning("member %d: the router's mailbox is full", self.member)


def _unpacked(data: Any) -> MachineSnapshot | None:
    snapshot = data.unpack() if isinstance(data, PackedSnapshot) else data
    assert snapshot is None or isinstance(snapshot, MachineSnapshot), type(snapshot)
    return snapshot


def _only_heartbeats(packet: Packet) -> bool:
    return all(isinstance(message, Heartbeat | HeartbeatReply) for message in packet.messages)
