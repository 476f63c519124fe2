"""A store replicated by a Raft group: one actor that is a `Storage` to its clients and a supervisor to its
members.

It sends each request to the leader, and sends it again when there is another: members remember what they
answered within its session, so that a write is done once however often it was sent. A watch goes on at the
next leader from the last revision that its reader got.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve

from understudy.actors import (
    TRANSIENT,
    Actor,
    ActorFailed,
    ActorStopped,
    AskTimeout,
    ChannelReader,
    Deferred,
    Terminated,
    handles,
)
from understudy.mailbox import Patience, Verdict, verdict_on
from understudy.raftstore.founding import (
    LocalPeers,
    LogOf,
    Seat,
    VolatileLogs,
    founding_state,
    local_founders,
)
from understudy.raftstore.machine import check_request
from understudy.raftstore.member import Member
from understudy.raftstore.membership import (
    LocateLeader,
    MemberGaveUp,
    MemberLeft,
    MemberNews,
    Membership,
    Outcomes,
    Peers,
    ServeSnapshot,
    ServeWatch,
    StartMember,
    StopMember,
    WhichCluster,
)
from understudy.raftstore.options import GroupOptions
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.relays import Relays
from understudy.raftstore.router import Router
from understudy.raftstore.saving import CAPACITY, relay_snapshot
from understudy.raftstore.serving import Serving, serving
from understudy.raftstore.storage import (
    NotLeader,
    OpenSnapshot,
    OpenWatch,
    Storage,
    StorageError,
    Unavailable,
    Watch,
    WatchOpened,
)
from understudy.raftstore.storage.cluster import (
    AwaitLeader,
    Leadership,
    MemberAdd,
    MemberList,
    MemberPromote,
    MemberPublish,
    MemberRemove,
    MembershipError,
    MemberUpdate,
    MoveLeader,
)
from understudy.raftstore.wal.logs import DiskLogs

log = logging.getLogger("understudy.raftstore")

MAILBOX_CAPACITY = 65_536
"""Of members and router: what they are sent is bounded by the requests under way and by the inflight
windows."""

WATCH_PATIENCE = Patience(open_seconds=30.0, backoff_initial_seconds=0.02, backoff_max_seconds=1.0)
"""How a watch looks for its next leader: at once, since the waiting is done where there is none."""


class Group(Serving, Actor[Storage]):
    """The members of one host, or of several in simulation, and the way to them."""

    def __init__(self, seats: Sequence[Seat], peers: Peers, options: GroupOptions, cluster: int = 0) -> None:
        self.seats = {seat.member: seat for seat in seats}
        self.peers = peers
        self.options = options
        self.cluster = cluster
        self.bcrypt_cost = options.member.store.bcrypt_cost
        self._followers: list[tuple[Leadership | None, Deferred[Leadership]]] = []
        """Who waits for another leader than the one that he knows."""

    async def on_start(self) -> None:
        # A world of the same seed draws the same again when it starts again; the log remembers the last time.
        began_us = int(self.world.now().timestamp() * 1e6)
        session = self.world.rng(f"session {self.context.path}").getrandbits(62) ^ (began_us << 1) | 1
        self.router = Router(self.context, self.options, session)
        self.relays = Relays(self.context, self._open, _verdict, WATCH_PATIENCE)
        for seat in self.seats.values():
            self._start(seat)

    def _start(self, seat: Seat) -> None:
        host = seat.host or self.context.host
        log = seat.log(self.world, host)

        def factory() -> Actor[Membership]:
            return Member(seat.member, log, self.peers, self.context.self, self.options.member)

        ref = self.context.spawn(
            factory, f"member-{seat.member}", TRANSIENT, host=host, capacity=MAILBOX_CAPACITY
        )
        if isinstance(self.peers, LocalPeers):
            self.peers.refs[seat.member] = ref
        self.router.add(seat.member, ref)
        self.context.watch(ref)
        if seat.publish is not None:
            self.context.start_soon(self._publish, seat.publish)

    async def _publish(self, publish: MemberPublish) -> None:
        """Say in the group that a member has started, and where clients reach it."""
        while True:
            try:
                listed = await self.router.ask(MemberList(linearizable=False))
                for member in listed.members:
                    if member.id == publish.id:
                        if (member.name, member.client_urls) == (publish.name, publish.client_urls):
                            return
                        await self.router.ask(publish)
                        return
            except (Unavailable, MembershipError) as error:
                log.debug("member %d does not get to say that it started: %s", publish.id, error)
            await self.world.sleep(self.options.probe_seconds, "publish")

    # ---------------------------------------------------------------- requests

    def serve(self, request: Any) -> Deferred[Any]:
        """Have a request answered by the member that can. Raises a `StorageError`."""
        self._check(request)
        return self.router.serve(request)

    async def serve_aside(self, request: Any) -> Any:
        """As `serve`, and wait for the answer."""
        self._check(request)
        return await self.router.ask(request)

    def _check(self, request: Any) -> None:
        options = self.options
        check_request(request, options.member.store.max_txn_operations, options.max_request_bytes)

    _member_list = serving(MemberList)
    _member_add = serving(MemberAdd)
    _member_remove = serving(MemberRemove)
    _member_update = serving(MemberUpdate)
    _member_promote = serving(MemberPromote)
    _member_publish = serving(MemberPublish)
    _move_leader = serving(MoveLeader)

    # ---------------------------------------------------------------- news of members

    @handles(Outcomes)
    def on_outcomes(self, outcomes: Outcomes) -> None:
        self.router.outcomes(outcomes)

    @handles(MemberNews)
    def on_member_news(self, news: MemberNews) -> None:
        self.router.news(news)
        self._tell_leadership()

    @handles(Terminated)
    def on_terminated(self, notice: Terminated) -> None:
        for member, local in self.router.members.items():
            if local.ref.path == notice.path:
                self.router.lost(member, final=notice.final)
        self._tell_leadership()

    def _tell_leadership(self) -> None:
        leadership = self.router.leadership()
        followers, self._followers = self._followers, []
        for known, waiting in followers:
            if known != leadership:
                waiting.answer(leadership)
            elif not waiting.done:
                self._followers.append((known, waiting))

    @handles(AwaitLeader)
    def on_await_leader(self, request: AwaitLeader) -> Deferred[Leadership]:
        waiting: Deferred[Leadership] = Deferred()
        self._followers.append((request.known, waiting))
        self._tell_leadership()
        return waiting

    @handles(MemberGaveUp)
    def on_member_gave_up(self, news: MemberGaveUp) -> None:
        self.router.members[news.member].gave_up = news.reason

    @handles(MemberLeft)
    def on_member_left(self, news: MemberLeft) -> None:
        self.router.members[news.member].gave_up = "it was taken out of the group"

    @handles(StopMember, concurrent=True)
    async def on_stop_member(self, request: StopMember) -> None:
        local = self.router.members.get(request.member)
        if local is None:
            raise MembershipError("member not found", f"{request.member} is not of this host")
        await self.context.stop(local.ref)

    @handles(StartMember)
    def on_start_member(self, request: StartMember) -> None:
        local = self.router.members.get(request.member)
        if local is None:
            log_of = next(iter(self.seats.values())).log_of
            publish = MemberPublish(request.member, f"member-{request.member}")
            seat = Seat(request.member, log_of, request.host, PersistentState.joining(), publish)
            self.seats[request.member] = seat
            self._start(seat)
        elif not local.running:
            self._start(self.seats[request.member])

    @handles(LocateLeader)
    def on_locate_leader(self, request: LocateLeader) -> int:
        return self.router.leader

    @handles(WhichCluster)
    def on_which_cluster(self, request: WhichCluster) -> int:
        return self.cluster

    # ---------------------------------------------------------------- watches

    @handles(OpenWatch, concurrent=True)
    async def on_open_watch(self, request: OpenWatch) -> WatchOpened:
        reader: ChannelReader[Any] | None = None
        with self.world.limit(self.options.request_timeout_seconds):
            reader, opened = await self._open(request.watch, request.to.label)
        if reader is None:
            raise Unavailable("no leader to watch at")
        next_revision = request.watch.start_revision or opened.revision + 1
        watch = evolve(request.watch, start_revision=next_revision, granted=True)
        self.relays.begin(watch, reader, request.to)
        return opened

    async def _open(self, watch: Watch, label: str) -> tuple[ChannelReader[Any], WatchOpened]:
        """Have a member serve a watch, as soon as one knows a leader."""
        while True:
            member = self.router.watch_at()
            if member is not None:
                writer, reader = self.context.channel(label)
                try:
                    return reader, await member.ask(ServeWatch(watch, writer))
                except BaseException as error:
                    reader.cancel()
                    if not isinstance(error, Exception) or _verdict(error) is Verdict.END:
                        raise
            await self.world.sleep(self.options.probe_seconds, "watch waits for a leader")

    # ---------------------------------------------------------------- snapshots

    @handles(OpenSnapshot, concurrent=True)
    async def on_open_snapshot(self, request: OpenSnapshot) -> None:
        member = self.router.snapshot_at()
        if member is None:
            raise Unavailable("no member runs")
        writer, reader = self.context.channel(request.to.label, CAPACITY)
        try:
            await member.ask(
                ServeSnapshot(writer, request.token, request.user), self.options.request_timeout_seconds
            )
        except BaseException as error:
            reader.cancel()
            if isinstance(error, ActorStopped | ActorFailed | AskTimeout | NotLeader):
                raise Unavailable(f"the member that was to tell its state does not: {error}") from error
            raise
        relay_snapshot(self.context, reader, request.to)


def _verdict(error: Exception) -> Verdict:
    """What ends a watch is what the store refuses: not that somebody does not lead, or cannot be reached."""
    refused = isinstance(error, StorageError) and not isinstance(error, NotLeader | Unavailable)
    return Verdict.END if refused else verdict_on(error)


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
    founders = local_founders(options.members)
    state = founding_state(founders, options.member.store)
    log_of = disk_logs.log if disk_logs is not None else VolatileLogs().log
    seats = [
        Seat(member.id, log_of, hosts[member.id - 1] if hosts is not None else "", state)
        for member in founders
    ]
    peers = LocalPeers()
    return lambda: Group(seats, peers, options)


def raft_node(
    member: int,
    peers: Peers,
    log_of: LogOf,
    state: PersistentState,
    *,
    name: str = "",
    client_urls: tuple[str, ...] = (),
    options: GroupOptions | None = None,
    cluster: int = 0,
) -> Callable[[], Actor[Storage]]:
    """A factory for one member of a group and the store in front of it; the others are elsewhere.

    Args:
        member: its id.
        peers: how it reaches the others' members: each is the child `member-ID` of its node's actor.
        log_of: where it keeps its log, as `DiskLogs(...).log`.
        state: what an empty log begins with: `founding_state(members)` for the first members of a group, the
            same for each; `PersistentState.joining()` for one that `MemberAdd` has let in.
        name: what it calls itself in the list of members, once it has started.
        client_urls: where its clients reach it, for that list.
        cluster: the id of the cluster, which members elsewhere ask for.
    """
    publish = MemberPublish(member, name or f"member-{member}", client_urls)
    seat = Seat(member, log_of, "", state, publish)
    return lambda: Group([seat], peers, options or GroupOptions(), cluster)
