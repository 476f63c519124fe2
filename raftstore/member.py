"""A member of a Raft group as an actor: it drives the core, keeps the log durable and applies it to the
store.

Handlers only put things into the core; one task, the *driver*, does what comes out of it. However many
messages came in meanwhile, they share one `Ready`, one write to the log and one message to each of the
others.
"""

import logging
from collections import deque

from understudy.actors import Actor, Ref, handles
from understudy.mailbox import MailboxFull
from understudy.raftstore.clients import Clients
from understudy.raftstore.feeds import Feeds
from understudy.raftstore.machine import CLUSTER_CHANGES, Command, StateMachine
from understudy.raftstore.memberlog import MemberLog
from understudy.raftstore.membership import (
    Forward,
    ForwardOutcomes,
    MemberGaveUp,
    MemberLeft,
    MemberNews,
    Membership,
    Packet,
    Peers,
    Removed,
    ServeSnapshot,
    ServeWatch,
    SnapshotChunk,
    SnapshotWanted,
    Submit,
)
from understudy.raftstore.messages import (
    Entry,
    Heartbeat,
    HeartbeatReply,
    Snapshot,
    SnapshotRequest,
)
from understudy.raftstore.messages import Message as RaftMessage
from understudy.raftstore.options import MemberOptions
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import Ready
from understudy.raftstore.saving import send_snapshot
from understudy.raftstore.storage import (
    NotLeader,
    Storage,
    WatchOpened,
)
from understudy.raftstore.transfers import Transfers
from understudy.raftstore.waking import Waking
from understudy.raftstore.wal.entries import unsealed
from understudy.raftstore.wal.errors import StoreFolderError

log = logging.getLogger("understudy.raftstore")

FULL_ROUTER_S = 0.01
"""Answers wait so long for room in their router's mailbox."""
GIVING_UP_S = 0.1
"""How long a member that has given up says nothing before it ends."""


class Member(Actor[Membership]):
    def __init__(
        self,
        member: int,
        disk: MemberLog,
        peers: Peers,
        router: Ref[Storage],
        options: MemberOptions,
    ) -> None:
        self.member = member
        self.disk = disk
        self.peers = peers
        self.router = router
        self.options = options
        self.machine = StateMachine(options.store)
        self._known_leader = (0, 0)
        self._taken: Ready | None = None
        """Taken out of the core by a handler, for the driver to do."""
        self._unsynced: deque[Ready] = deque()
        """Taken by the driver, and not durable yet, in order."""
        self._compacting = False
        self._saved_index = 0
        """Of the last snapshot that is on the disk, or on its way there."""
        self._unsaved_bytes = 0
        """Of entries since then."""
        self._uncut_bytes = 0
        """Of entries since the last cut of the log in memory."""
        self._news_due = True
        """Something about the group changed that its router wants to know."""
        self._leaving = False
        """The log says that this member was taken out."""
        self._ended = False

    async def on_start(self) -> None:
        try:
            persistent = await self.disk.open()
        except StoreFolderError as error:
            self._give_up(error)
            return
        self._work = self.world.signal(f"{self.context.path} work")
        self._tick = Waking(self.world, self._work.set, f"{self.context.path} tick")
        random = self.world.rng(f"raft {self.context.path}")
        self.raft = Raft(self.member, persistent, self.options.raft, random, self._now_ms())
        self.machine.restore(persistent.snapshot.data)
        self._saved_index = persistent.snapshot.index
        self._leaving = self.member in self.machine.cluster.removed
        self.peers.learn(self.machine.cluster.all())
        self._feeds = Feeds(self.context, self.machine)
        self._long_work = self.world.signal(f"{self.context.path} long work")
        self._clients = Clients(
            self.member,
            self.options,
            self.raft,
            self.machine,
            self.peers,
            self.world,
            self._feeds.wake_all,
            self._long_work.set,
        )
        self._to_write = self.world.signal(f"{self.context.path} log")
        self.context.start_soon(self._drive)
        self.context.start_soon(self._persist)
        self.context.start_soon(self._work_on)
        self._transfers = Transfers(self.member, self.disk, self.peers, self.world, self._snapshot_arrived)
        self.context.start_soon(self._receive_snapshots)
        self._work.set()

    async def on_stop(self) -> None:
        await self.disk.close()

    def _give_up(self, error: StoreFolderError) -> None:
        """Stop, for good: from here on nothing can be made durable, so that nothing may be acknowledged."""
        self._ended = True
        log.error("member %d stops: %s", self.member, error)
        try:
            self.router.tell(MemberGaveUp(self.member, str(error)))
        except MailboxFull:
            log.warning("member %d: the router's mailbox is full", self.member)
        # Its end must not overtake the reason.
        self.world.call_later(GIVING_UP_S, self.context.stop_self, f"{self.context.path} gives up")

    def _leave(self) -> None:
        """Stop, for good: the group has taken this member out (thesis §4.2.2)."""
        if self._ended:
            return
        self._ended = True
        log.info("member %d was taken out of its group and stops", self.member)
        try:
            self.router.tell(MemberLeft(self.member))
        except MailboxFull:
            log.warning("member %d: the router's mailbox is full", self.member)
        self.context.stop_self()

    def _now_ms(self) -> float:
        return self.world.monotonic() * 1000.0

    # ---------------------------------------------------------------- what comes in

    @handles(Packet)
    def on_packet(self, packet: Packet) -> None:
        if self._ended:
            return
        self.raft.advance_clock(self._now_ms())
        removed = self.machine.cluster.removed
        for message in packet.messages:
            if message.sender in removed:
                self._tell_removed(message.sender)
            else:
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
        if not self._ended:
            self.raft.advance_clock(self._now_ms())
            self._clients.submit(submit)
            self._work.set()

    @handles(Forward)
    def on_forward(self, forward: Forward) -> None:
        if not self._ended:
            self.raft.advance_clock(self._now_ms())
            self._clients.forwarded(forward)
            self._work.set()

    @handles(ForwardOutcomes)
    def on_forward_outcomes(self, outcomes: ForwardOutcomes) -> None:
        if not self._ended:
            self._clients.outcomes(outcomes)
            self._work.set()

    @handles(Removed)
    def on_removed(self, notice: Removed) -> None:
        self._leave()

    @handles(ServeWatch)
    def on_serve_watch(self, request: ServeWatch) -> WatchOpened:
        if self._ended or not self.raft.leader:
            raise NotLeader(0)
        return self._feeds.open(request.watch, request.to)

    @handles(ServeSnapshot)
    def on_serve_snapshot(self, request: ServeSnapshot) -> None:
        if self._ended:
            raise NotLeader(0)
        index = self.raft.log.applied_index
        term = self.raft.log.term_at(index)
        assert term is not None, f"entry {index}, which is applied, has no term"
        view = self.machine.open_snapshot(request)
        send_snapshot(self.context, Snapshot(index, term, self.raft.configuration, view), request.to)

    # ---------------------------------------------------------------- the driver

    @handles(SnapshotChunk)
    def on_snapshot_chunk(self, chunk: SnapshotChunk) -> None:
        if not self._ended and chunk.transfer.term >= self.raft.term:
            self._transfers.chunk(chunk)

    @handles(SnapshotWanted)
    def on_snapshot_wanted(self, answer: SnapshotWanted) -> None:
        if not self._ended:
            self._transfers.wanted(answer, self._now_ms())
            self._work.set()

    async def _receive_snapshots(self) -> None:
        try:
            await self._transfers.receive()
        except StoreFolderError as error:
            self._give_up(error)

    def _snapshot_arrived(self, request: SnapshotRequest) -> None:
        self.raft.advance_clock(self._now_ms())
        if request.sender not in self.machine.cluster.removed:
            self.raft.step(request)
            self._work.set()

    async def _drive(self) -> None:
        while True:
            await self._work.wait()
            if self._ended:
                return
            self.raft.tick(self._now_ms())
            self._end_leases()
            while not (ready := self._take()).empty:
                self._do(ready)
            self._follow_leader()
            if self._transfers.pump(self._now_ms()):
                self._work.set()
            self._send_outcomes()
            if self._leaving:
                self._leave()
                return
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
            self._unsaved_bytes += entry.size_bytes
            self._uncut_bytes += entry.size_bytes
        if ready.committed:
            self.raft.applied(ready.committed[-1].index)
            self._compact()
        self._clients.indexed(ready.reads, ready.lost_reads)

    def _synced(self, ready: Ready) -> None:
        self.raft.advance_clock(self._now_ms())
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

    async def _work_on(self) -> None:
        """Do what takes long between everything else."""
        while True:
            await self._long_work.wait()
            while self._clients.go_on() or not self.machine.store.is_pruned:
                self.machine.store.prune()
                await self.world.sleep(0.0, f"{self.context.path} long work")
            self._work.set()

    def _send(self, messages: tuple[RaftMessage, ...]) -> None:
        packets: dict[int, list[RaftMessage]] = {}
        for message in messages:
            if isinstance(message, SnapshotRequest):
                self._transfers.begin(message, self._now_ms())
                self._work.set()
                continue
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

    def _tell_removed(self, member: int) -> None:
        """Somebody who was taken out does not know it: the group had no more to do with it."""
        peer = self.peers.get(member)
        if peer is not None:
            try:
                peer.tell(Removed())
            except MailboxFull:
                log.warning("member %d: the mailbox of member %d is full", self.member, member)

    def _arm_timer(self) -> None:
        """Wake the driver when the core is due."""
        due_s = min(self.raft.deadline_ms, self._transfers.deadline_ms) / 1000.0
        lease_s = self.machine.timing.next_deadline_s()
        if lease_s is not None:
            due_s = min(due_s, lease_s)
        self._tick.by(due_s)

    # ---------------------------------------------------------------- the state machine

    def _apply(self, entry: Entry) -> None:
        command = unsealed(entry.data)
        change = entry.kind == "configuration"
        if change:
            command = entry.data.context
        if command is None:
            if change:
                self.raft.apply_configuration(entry)  # The core's own: it leaves a joint configuration.
            return
        assert isinstance(command, Command), entry
        answer, woken, done = self.machine.apply(command)
        if change and done:
            # What is refused, or was done before, changes the configuration nowhere.
            self.raft.apply_configuration(entry)
        if isinstance(command.request, CLUSTER_CHANGES):
            self.peers.learn(self.machine.cluster.all())
            self._news_due = True
        self._feeds.wake(woken)
        if not self.machine.store.is_pruned:
            self._long_work.set()
        if self.raft.leadership is not None:
            self.machine.follow(command.request, answer, self.world.monotonic())
        self._clients.applied(command, answer)
        if change and self.member in self.machine.cluster.removed:
            self._leaving = True

    def _restore(self, snapshot: Snapshot) -> None:
        # Whoever watches goes on from the last revision that came (etcd#8411: watches went silent).
        self._feeds.close_all()
        self.machine.restore(snapshot.data)
        self.raft.applied(snapshot.index)
        self._saved_index, self._unsaved_bytes, self._uncut_bytes = snapshot.index, 0, 0
        self._clients.restored()
        self.peers.learn(self.machine.cluster.all())
        self._news_due = True
        if self.member in self.machine.cluster.removed:
            self._leaving = True

    def _compact(self) -> None:
        """Take a snapshot when it is time to. In memory it is a view, which costs next to nothing; what is
        before the view before it can go. On the disk it costs time in proportion to the keys: let as many
        entries go by, or a quarter as many bytes."""
        options, keys = self.options, self.machine.store.keys
        index, before = self.raft.log.applied_index, self.raft.log.snapshot.index
        cut = index - before >= max(options.keep_entries, len(keys) // 32) or self._uncut_bytes >= max(
            options.keep_bytes, keys.size_bytes // 32
        )
        entries, size_bytes = self._saved_each()
        save = not self._compacting and (
            index - self._saved_index >= entries or self._unsaved_bytes >= size_bytes
        )
        if not (cut or save) or index > self.raft.log.stable_index:
            return  # Not yet; or the own disk lags behind the others'.
        term = self.raft.log.term_at(index)
        if term is None:
            return  # The leader's own snapshot came meanwhile.
        snapshot = Snapshot(index, term, self.raft.configuration, self.machine.snapshot())
        self.raft.compact(snapshot, index - self._kept_after(index, before))
        self.disk.taken(snapshot)
        self._uncut_bytes = 0
        if save:
            self._compacting = True
            self._saved_index, self._unsaved_bytes = index, 0
            self.context.start_soon(self._write_snapshot, snapshot)

    def _kept_after(self, index: int, before: int) -> int:
        """After which entry the log goes on that is cut at `index`: `before`; or earlier for a follower who
        lags, and would be sent the state again and again while it takes it in."""
        followed = self.raft.followed_from()
        if followed >= before:
            return before
        entries, size_bytes = self._saved_each()
        return min(before, max(followed, index - entries, self.raft.log.reach(index, size_bytes) - 1))

    def _saved_each(self) -> tuple[int, int]:
        """After how many entries, or bytes of entries, a snapshot on the disk is due."""
        options, keys = self.options, self.machine.store.keys
        return max(options.snapshot_entries, len(keys)), max(options.snapshot_bytes, keys.size_bytes // 4)

    async def _write_snapshot(self, snapshot: Snapshot) -> None:
        """Beside everything else: a large state takes its time."""
        try:
            await self.disk.compact(snapshot)
        except StoreFolderError as error:
            self._give_up(error)
            return
        self._compacting = False

    # ---------------------------------------------------------------- leadership and leases

    def _follow_leader(self) -> None:
        known = (self.raft.term, self.raft.leader)
        if known == self._known_leader:
            if self._news_due:
                self._tell_news()
            return
        led = self._known_leader[1] == self.member
        self._transfers.stop_sending()
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
            self._clients.propose_own(request)

    # ---------------------------------------------------------------- what goes out

    def _send_outcomes(self) -> None:
        if not self._clients.send_outcomes():
            self.world.call_later(FULL_ROUTER_S, self._work.set, f"{self.context.path} outcomes")

    def _tell_news(self) -> None:
        try:
            self.router.tell(MemberNews(self.member, *self._known_leader, self.raft.configuration))
            self._news_due = False
        except MailboxFull:
            # It asks around when it hears nothing.
            log.warning("member %d: the router's mailbox is full", self.member)


def _only_heartbeats(packet: Packet) -> bool:
    return all(isinstance(message, Heartbeat | HeartbeatReply) for message in packet.messages)
