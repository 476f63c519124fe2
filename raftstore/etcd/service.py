"""The etcd v3 services over any `Storage`, on decoded messages: no sockets, no gRPC.

`EtcdService.serve` takes one call (`calls.Call`) from its first message to its end. Which method does what is
a table; each group of methods has a module: `reading and writing` here, `watching`, `leasing`,
`maintaining`.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field, frozen

from understudy.actors import (
    ActorFailed,
    ActorStopped,
    AskTimeout,
    ChannelReader,
    ChannelWriter,
    Event,
    LimitReached,
    Ref,
    World,
)
from understudy.mailbox import MailboxFull, Refusal, Request
from understudy.raftstore.machine import takes_long
from understudy.raftstore.storage import AsUser, Compact, Status, StatusReply, Storage, StorageError
from understudy.raftstore.storage.cluster import AwaitLeader, ClusterChange, Leadership, MoveLeader

from . import errors
from .autocompaction import Compactor
from .calls import Call
from .errors import rpc_error
from .grpc import Code, RpcError, first_rpc_error
from .schema import METHODS, messages
from .translation import (
    delete_from,
    delete_to,
    put_from,
    put_to,
    range_from,
    range_to,
    txn_from,
    txn_to,
)

if TYPE_CHECKING:
    from .watching import Encoded

log = logging.getLogger("understudy.raftstore.etcd")

FOLLOW_SECONDS: Final = 3600.0
"""A question that waits for another leader is asked anew after so long."""

Handler = Callable[[Any, Call], Awaitable[Any]]
"""Answers one request."""
StreamHandler = Callable[[Call], Awaitable[None]]
"""Serves a call with streams to its end."""


@frozen
class ServiceOptions:
    """What the service adds to the store."""

    cluster_id: int = 1
    ask_seconds: float = 6.0
    """Above what the store itself takes before it says that it is unavailable."""
    long_ask_seconds: float = 310.0
    """The same of what takes long; most clients give up sooner."""
    again_seconds: float = 0.05
    """A store that does not say who leads is asked again after so long."""
    leaderless_seconds: float = 3.0
    """Streams that ask for a leader end when there was none for so long."""
    progress_seconds: float = 600.0
    """A watch that asks for it hears after so long without events how far it is: etcd's ten minutes."""
    keepalive_seconds: float = 7200.0
    """A client that said nothing for so long is asked whether it is there (grpc-go's default) ..."""
    keepalive_timeout_seconds: float = 20.0
    """... and is gone if it does not answer within so long."""
    watches_max: int = 10_000
    """Of one stream."""
    certificates_name_users: bool = False
    """Who comes without a token is the common name of its verified certificate."""
    max_request_bytes: int = 1_572_864
    """A watch answer is split above it where the client allows."""


@define(eq=False)
class EtcdService:
    """`open_channel(label, capacity)` makes a channel whose reading end belongs to the caller's actor."""

    world: World
    store: Ref[Storage]
    open_channel: Callable[[str, int], tuple[ChannelWriter[Any], ChannelReader[Any]]]
    options: ServiceOptions = field(factory=ServiceOptions)
    leadership: Leadership = field(factory=Leadership)
    """What the store last said of it."""
    led_changed: Event = field(init=False)
    """Set when there is a leader, or none any more; made anew then."""
    encoded: "Encoded" = field(init=False)
    """What watches were told last."""
    _unary: dict[str, Handler] = field(factory=dict)
    _streams: dict[str, StreamHandler] = field(factory=dict)
    _leader_lost: Event = field(init=False)
    """Set when there was no leader for `leaderless_seconds`, made anew when there is one."""
    _leaderless: int = 0
    """How often there was no leader any more."""

    def __attrs_post_init__(self) -> None:
        from .authority import Authority
        from .clustering import Clustering
        from .leasing import Leasing
        from .maintaining import Maintaining
        from .watching import Encoded, serve_watch

        authority, leasing, maintaining = Authority(self), Leasing(self), Maintaining(self)
        kv: dict[str, Handler] = {
            "Range": self._range,
            "Put": self._put,
            "DeleteRange": self._delete_range,
            "Txn": self._txn,
            "Compact": self._compact,
        }
        self._unary = {f"/etcdserverpb.KV/{name}": handler for name, handler in kv.items()}
        self._unary |= authority.unary | Clustering(self).unary | leasing.unary | maintaining.unary
        self._streams = {
            "/etcdserverpb.Watch/Watch": lambda call: serve_watch(self, call),
            **leasing.streams,
            **maintaining.streams,
        }
        assert {*self._unary, *self._streams} <= {*METHODS}, sorted({*self._unary, *self._streams})
        self.encoded = Encoded(self)
        self._leader_lost = self.world.event("no leader")
        self.led_changed = self.world.event("led or not")

    # ---------------------------------------------------------------- calls

    async def serve(self, call: Call) -> None:
        """Serve a call to its end. Raises RpcError: the status that it ends with."""
        if call.metadata.get("hasleader") == "true" and self._leader_lost.is_set():
            raise RpcError(*errors.NO_LEADER)
        path = call.method.path
        handler = self._unary.get(path)
        try:
            if handler is not None:
                request = await call.receive()
                if request is None:
                    raise RpcError(Code.INTERNAL, "the call has no request")
                await call.send(await handler(request, call))
                return
            stream = self._streams.get(path)
            if stream is None:
                raise RpcError(Code.UNIMPLEMENTED, f"method {call.method.name} is not implemented")
            if call.metadata.get("hasleader") == "true":
                await self._while_led(stream, call)
            else:
                await stream(call)
        except StorageError as refusal:
            raise rpc_error(refusal) from refusal
        except BaseExceptionGroup as group:
            first = first_rpc_error(group)
            if first is None:
                raise
            raise first from group

    async def _while_led(self, stream: StreamHandler, call: Call) -> None:
        async with self.world.nursery() as nursery:

            async def end_without_leader() -> None:
                await self._leader_lost.wait()
                raise RpcError(*errors.NO_LEADER)

            nursery.start_soon(end_without_leader)
            await stream(call)
            nursery.cancel()

    async def ask(self, request: Request[Storage, Any], call: Call | None = None) -> Any:
        """Ask the store, on behalf of whoever makes the call. Raises RpcError."""
        if call is not None:
            token = call.metadata.get("token", "")
            named = call.common_name if self.options.certificates_name_users and not token else ""
            if token or named or isinstance(request, ClusterChange | MoveLeader):
                # Changes of the group itself are judged only as somebody's, if need be as nobody's.
                request = AsUser(request, token, named)
        answer = await self._ask(request)
        if not self.leadership.leader:
            # There may be one to have answered, of whom nobody was told yet: the header names it.
            await self.follow()
        return answer

    async def _ask(self, request: Request[Storage, Any]) -> Any:
        options = self.options
        seconds = options.long_ask_seconds if takes_long(request) else options.ask_seconds
        try:
            return await self.store.ask(request, seconds)
        except (AskTimeout, ActorFailed) as error:
            raise RpcError(*errors.TIMED_OUT) from error
        except ActorStopped as error:
            raise RpcError(*errors.STOPPED) from error
        except (MailboxFull, LimitReached) as error:
            raise RpcError(*errors.TOO_MANY_REQUESTS) from error
        except Refusal as refusal:
            raise rpc_error(refusal) from refusal

    def header(self, revision: int) -> Any:
        """The header of an answer at a revision."""
        return messages.ResponseHeader(
            cluster_id=self.options.cluster_id,
            member_id=self.leadership.member,
            revision=revision,
            raft_term=self.leadership.term,
        )

    # ---------------------------------------------------------------- who leads

    async def run(self) -> None:
        """Follow who leads, until cancelled."""
        self._watch_for_leader()
        known: Leadership | None = None
        while True:
            try:
                known = await self.store.ask(AwaitLeader(known), FOLLOW_SECONDS)
            except AskTimeout:
                continue  # Nothing has changed.
            except Refusal as refusal:
                log.debug("the store does not say who leads: %s", refusal)
                known = None
                self._learn(Leadership(self.leadership.member, 0, self.leadership.term))
                await self.world.sleep(self.options.again_seconds, "who leads")
            else:
                self._learn(known)

    async def follow(self) -> Leadership:
        """Have the store say now who leads."""
        try:
            self._learn(await self._ask(AwaitLeader()))
        except RpcError as error:
            log.debug("the store does not say who leads: %s", error)
            self._learn(Leadership(self.leadership.member, 0, self.leadership.term))
        return self.leadership

    def _learn(self, leadership: Leadership) -> None:
        was_led = bool(self.leadership.leader)
        self.leadership = leadership
        if bool(leadership.leader) is was_led:
            return
        if was_led:
            self._watch_for_leader()
        elif self._leader_lost.is_set():
            self._leader_lost = self.world.event("no leader")
        changed, self.led_changed = self.led_changed, self.world.event("led or not")
        changed.set()

    def _watch_for_leader(self) -> None:
        """There is no leader: streams that need one end unless there is another soon."""
        self._leaderless += 1
        spell = self._leaderless

        def still_none() -> None:
            if spell == self._leaderless and not self.leadership.leader:
                self._leader_lost.set()

        self.world.call_later(self.options.leaderless_seconds, still_none, "no leader")

    async def look(self) -> StatusReply | None:
        """How the store is now; None when it does not say."""
        try:
            status: StatusReply = await self._ask(Status())
        except RpcError as error:
            log.debug("the store does not say how it is: %s", error)
            return None
        return status

    async def compact_regularly(self, compactor: Compactor) -> None:
        """Forget the past as `compactor` says while the member that answers leads, until cancelled."""
        while True:
            await self.world.sleep(compactor.look_seconds, "auto-compaction")
            status = await self.look()
            if status is None or not status.leader or status.leader != status.member:
                continue
            revision = compactor.look(self.world.monotonic(), status.revision)
            if revision:
                try:
                    await self.ask(Compact(revision))
                    log.info("compacted up to revision %d", revision)
                except RpcError as error:
                    # Somebody else has compacted further, or there is no leader now: the next look tells.
                    log.info("not compacted up to revision %d: %s", revision, error)

    # ---------------------------------------------------------------- reading and writing

    async def _range(self, request: Any, call: Call) -> Any:
        reply = await self.ask(range_from(request), call)
        return range_to(reply, self.header(reply.revision))

    async def _put(self, request: Any, call: Call) -> Any:
        reply = await self.ask(put_from(request), call)
        return put_to(reply, self.header(reply.revision))

    async def _delete_range(self, request: Any, call: Call) -> Any:
        reply = await self.ask(delete_from(request), call)
        return delete_to(reply, self.header(reply.revision))

    async def _txn(self, request: Any, call: Call) -> Any:
        reply = await self.ask(txn_from(request), call)
        return txn_to(reply, self.header(reply.revision))

    async def _compact(self, request: Any, call: Call) -> Any:
        reply = await self.ask(Compact(request.revision, request.physical), call)
        return messages.CompactionResponse(header=self.header(reply.revision))
