"""Every change that was asked of the store, as objects, and what the members of the group did with it."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson
from attrs import define, field, frozen

from understudy.actors.system import Delivery
from understudy.components.machinery.api import Object
from understudy.raftstore.membership import Outcomes, Packet, Submit
from understudy.raftstore.messages import AppendReply, AppendRequest
from understudy.raftstore.storage import DeleteRange, Put, Txn, TxnReply, WatchBatch

from .recording import Recording
from .step import ObjectName


@frozen(eq=False)
class Write:
    """One change of one object, as the API server asked the store for it."""

    asked: Delivery
    """The transaction at the store."""
    answered: Delivery | None
    key: bytes
    name: ObjectName
    object: Object | None
    """As it is to be stored; None for a deletion."""
    old: Object | None
    """As it was stored before, where the recording knows."""
    revision: int
    """0 when it was not done: the store's compare failed, or no answer came."""

    @property
    def known(self) -> Object:
        """The object, or what it last was."""
        return self.object or self.old or {}


@define(eq=False)
class Replication:
    """The way of one command through the group."""

    submitted: Delivery | None = None
    """At the leader."""
    index: int = 0
    term: int = 0
    appends: list[Delivery] = field(factory=list)
    """At each follower."""
    replies: list[Delivery] = field(factory=list)
    """At the leader: the first of each follower that covers the entry."""
    outcome: Delivery | None = None
    """At the router: applied, and what came of it."""
    watched: Delivery | None = None
    """At whoever watches the store: the batch that holds the change."""


def name_of(obj: Object) -> ObjectName:
    """The name of an object."""
    metadata = obj.get("metadata") or {}
    group = obj.get("apiVersion", "").rpartition("/")[0]
    return ObjectName(
        obj.get("kind", ""), metadata.get("namespace") or "", str(metadata.get("name") or ""), group
    )


def store_writes(told: Recording) -> list[Write]:
    """Every put and deletion of an API object, in the order in which the store was asked."""
    state: dict[bytes, Object] = {}
    found: list[Write] = []
    for delivery in told.deliveries:
        if delivery.answer or not isinstance(delivery.message, Txn | Put | DeleteRange):
            continue
        answer = told.answer(delivery)
        revision = _revision(answer)
        for operation in _operations(delivery.message):
            obj = _parsed(operation.value) if isinstance(operation, Put) else None
            old = state.get(operation.key)
            named = obj if obj is not None else old
            if named is None:
                continue
            found.append(Write(delivery, answer, operation.key, name_of(named), obj, old, revision))
            if revision and obj is not None:
                state[operation.key] = obj
            elif revision:
                state.pop(operation.key, None)
    return found


def _operations(message: Txn | Put | DeleteRange) -> Iterator[Put | DeleteRange]:
    operations = message.success if isinstance(message, Txn) else (message,)
    for operation in operations:
        if isinstance(operation, Put) or (isinstance(operation, DeleteRange) and not operation.range_end):
            yield operation


def _parsed(value: bytes) -> Object | None:
    try:
        obj = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return obj if isinstance(obj, dict) and "metadata" in obj else None


def _revision(answer: Delivery | None) -> int:
    if answer is None or isinstance(answer.message, BaseException):
        return 0
    if isinstance(answer.message, TxnReply) and not answer.message.succeeded:
        return 0
    return int(answer.message.revision)


def replications(told: Recording, writes: list[Write]) -> dict[int, Replication]:
    """By the number of the ask that brought the change to the store: what the group did with it."""
    submitted: dict[tuple[int, int], Replication] = {}
    """By session and number of the command."""
    waiting: dict[bytes, list[tuple[Any, Replication]]] = {}
    found: dict[int, Replication] = {}
    by_revision: dict[int, Replication] = {}
    for write in writes:
        if write.asked.ask not in found:
            replication = found[write.asked.ask] = Replication()
            waiting.setdefault(write.key, []).append((write.asked.message, replication))
            if write.revision:
                by_revision[write.revision] = replication
    replies: list[tuple[Delivery, AppendReply]] = []
    for delivery in told.deliveries:
        message = delivery.message
        if delivery.answer:
            continue
        if isinstance(message, Submit):
            for submission in message.submissions:
                matched = _take(waiting, submission.request)
                if matched is not None:
                    matched.submitted = delivery
                    submitted[message.session, submission.number] = matched
        elif isinstance(message, Packet):
            for raft in message.messages:
                if isinstance(raft, AppendRequest):
                    _appended(delivery, raft, submitted)
                elif isinstance(raft, AppendReply) and not raft.rejected:
                    replies.append((delivery, raft))
        elif isinstance(message, Outcomes):
            for outcome in message.outcomes:
                settled = submitted.get((message.session, outcome.number))
                if settled is not None and settled.outcome is None:
                    settled.outcome = delivery
        elif isinstance(message, WatchBatch):
            for event in message.events:
                seen = by_revision.get(event.kv.mod_revision)
                # A relay gets the batch before the reader does: the last one counts.
                if seen is not None and told.writer(delivery).count("/") == 1:
                    seen.watched = seen.watched or delivery
    for replication in found.values():
        _replied(replication, replies)
    return found


def _take(waiting: dict[bytes, list[tuple[Any, Replication]]], request: Any) -> Replication | None:
    """The write that a submission carries: the oldest that is equal to it and was not submitted yet."""
    if not isinstance(request, Txn | Put | DeleteRange):
        return None
    for operation in _operations(request):
        for position, (message, replication) in enumerate(waiting.get(operation.key, ())):
            if message == request:
                del waiting[operation.key][position]
                return replication
    return None


def _appended(
    delivery: Delivery, request: AppendRequest, submitted: dict[tuple[int, int], Replication]
) -> None:
    for entry in request.entries:
        if entry.kind != "normal" or entry.data is None:
            continue
        replication = submitted.get((entry.data.session, entry.data.number))
        if replication is not None and all(
            known.receiver != delivery.receiver for known in replication.appends
        ):
            replication.index, replication.term = entry.index, entry.term
            replication.appends.append(delivery)


def _replied(replication: Replication, replies: list[tuple[Delivery, AppendReply]]) -> None:
    followers = {delivery.receiver: delivery.seconds for delivery in replication.appends}
    if not replication.appends:
        return
    first = bisect_left(replies, replication.appends[0].seconds, key=lambda reply: reply[0].seconds)
    for delivery, reply in islice(replies, first, None):
        if not followers:
            return
        appended = followers.get(delivery.sender)
        if (
            appended is not None
            and delivery.seconds >= appended
            and (reply.term, reply.index) >= (replication.term, replication.index)
        ):
            replication.replies.append(delivery)
            del followers[delivery.sender]
