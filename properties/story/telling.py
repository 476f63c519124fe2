"""The story of a manifest, told from the messages of the cluster alone.

`story` is a pure function of recorded deliveries. It follows causes, not a list of expected steps: which
objects somebody outside wrote, what came of them by ownership, and every message about any of those that
changed something or brought news. Questions that change nothing, and what is about other things
(heartbeats, leases, other objects), are left out.
"""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import orjson
from attrs import define, evolve, field

from understudy.actors.system import Delivery
from understudy.components.boundary.cri import PullImage
from understudy.components.boundary.dataplane import ReplaceRules
from understudy.components.boundary.name_server import Query
from understudy.components.machinery.api import ApiRequest, ApiResponse
from understudy.components.scheduler.explanation import Explain, Explanation
from understudy.raftstore.membership import MemberNews, Outcomes, Packet, ServeWatch, Submit
from understudy.raftstore.storage import OpenWatch, StorageRequest, WatchBatch

from .api_steps import (
    Told,
    admit_step,
    claims,
    elapsed_ms,
    request_step,
    watch_index,
    watch_step,
)
from .lanes import nodes_of
from .lineage import CHANGING_METHODS, Lineage, body_of, lineage, request_info, request_object
from .node_steps import (
    READS,
    Rules,
    decision_text,
    describe,
    dns_answer,
    dns_question,
    dns_service,
    rules_about,
    rules_text,
)
from .recording import Recording, recording
from .step import OUTSIDE, Content, ObjectName, Step, actor_of
from .store_steps import store_step
from .store_writes import Replication, Write, name_of, replications, store_writes
from .values import plain

_TOLD_WITH_THE_STORE = (
    *get_args(StorageRequest),
    OpenWatch,
    WatchBatch,
    Submit,
    Packet,
    Outcomes,
    MemberNews,
    ServeWatch,
)


def story(deliveries: Sequence[Delivery], since_seconds: float = 0.0) -> tuple[Step, ...]:
    """Tell what became of the objects that somebody outside the cluster wrote, from a monotonic time on.

    The deliveries are those of the cluster's whole life, in order: who watches what was said at its start.
    Steps come in the order in which their first message arrived.
    """
    told = recording(deliveries)
    writes = store_writes(told)
    found = lineage(told, writes, since_seconds)
    own = [write for write in writes if write.name in found]
    return _Teller(
        told, found, own, replications(told, own), since_seconds, nodes_of(_actors(deliveries))
    ).tell()


@define(eq=False)
class _Teller:
    told: Recording
    found: Lineage
    writes: list[Write]
    replications: dict[int, Replication]
    """By the ask of the write."""
    since_seconds: float
    nodes: frozenset[str]
    """Roots of paths that are machines."""
    steps: list[Step] = field(init=False, factory=list)
    _requests: dict[int, tuple[ObjectName, tuple[ObjectName, ...]]] = field(init=False, factory=dict)
    """Requests of the story by their ask: the object, and the story's objects that they are about."""
    _claims: dict[int, list[Write]] = field(init=False, factory=dict)
    """By the ask of the request."""
    _origins: dict[int, Delivery] = field(init=False, factory=dict)
    """By the ask of a write: the request that it came of."""
    _writes_of: dict[int, list[Write]] = field(init=False, factory=dict)
    """By their ask."""
    _news: dict[int, list[Told]] = field(init=False, factory=dict)
    """By position: changes that this channel item is the first news of."""
    _seen: frozenset[tuple[str, str]] = field(init=False, default=frozenset())
    """UID and revision of what anybody was told of."""
    _done: dict[tuple[str, str], Write] = field(init=False, factory=dict)
    """What made an object what it is as of a revision, by UID and revision."""
    _decisions: dict[str, tuple[str, Explanation]] = field(init=False, factory=dict)
    """By pod, with the path of who decided."""
    _places: dict[int, int] = field(init=False, factory=dict)
    """Where in `steps` a request is, by its ask."""
    _details: dict[int, list[Step]] = field(init=False, factory=dict)
    """What is told inside of a request's step, by the request's ask."""
    _rules: dict[str, Rules] = field(init=False, factory=dict)
    """The part of the rules that is about the story, by the dataplane's path."""
    _repeated: set[bytes] = field(init=False, factory=set)
    _members: int = field(init=False, default=1)
    """How many members the store has."""

    def tell(self) -> tuple[Step, ...]:
        self._prepare()
        for position, delivery in enumerate(self.told.deliveries):
            if delivery.answer or delivery.seconds < self.since_seconds:
                continue
            if delivery.channel:
                for news in self._news.get(position, ()):
                    self._tell_news(news)
            if isinstance(delivery.message, ApiRequest):
                self._tell_request(delivery)
            elif delivery.ask in self._writes_of:
                self._tell_writes(delivery)
            elif not isinstance(delivery.message, (bytes, *_TOLD_WITH_THE_STORE, *READS)):
                self._tell_message(delivery)
        for ask, details in self._details.items():
            place = self._places[ask]
            self.steps[place] = evolve(self.steps[place], children=tuple(details))
        return tuple(self.steps)

    def _prepare(self) -> None:
        requests: list[tuple[Delivery, ObjectName]] = []
        members: set[str] = set()
        for delivery in self.told.deliveries:
            message = delivery.message
            if delivery.answer or delivery.channel:
                continue
            if isinstance(message, Packet):
                members |= {delivery.receiver, delivery.sender}
            elif isinstance(message, Explain):
                answered = self.told.answer(delivery)
                if answered is not None and isinstance(answered.message, Explanation):
                    self._decisions[message.pod] = (delivery.receiver, answered.message)
            elif isinstance(message, ApiRequest) and message.method in CHANGING_METHODS:
                name = request_object(delivery, self.told.answer(delivery))
                if name is None:
                    continue
                objects = (name,) if name in self.found else self.found.about(body_of(message))
                if objects:
                    requests.append((delivery, name))
                    self._requests[delivery.ask] = (name, objects)
            elif not isinstance(message, (ApiRequest, bytes, *_TOLD_WITH_THE_STORE, *READS)):
                answered = self.told.answer(delivery)
                if answered is not None:
                    self.found.learn(message, answered.message, self.found.about(message))
        self._members = max(1, len(members))
        self._claims = claims(self.told, requests, self.writes)
        by_ask = {asked.ask: asked for asked, _ in requests}
        for ask, writes in self._claims.items():
            for write in writes:
                self._origins[write.asked.ask] = by_ask[ask]
        for write in self.writes:
            self._writes_of.setdefault(write.asked.ask, []).append(write)
            if write.revision:
                uid = str(write.known["metadata"].get("uid"))
                self._done[uid, str(write.revision)] = write
        index = watch_index(self.told)
        self._news, self._seen = index.first, index.revisions

    # -- the API server

    def _tell_request(self, asked: Delivery) -> None:
        if asked.ask not in self._requests:
            return
        name, objects = self._requests[asked.ask]
        info = request_info(asked.message)
        assert info is not None, asked.message.path
        writes = self._claims.get(asked.ask, ())
        write = next((write for write in reversed(writes) if write.revision), None)
        self._tell_decision(asked, name, info.subresource)
        self._places[asked.ask] = len(self.steps)
        self.steps.append(request_step(asked, self.told.answer(asked), info, name, objects, write))

    def _tell_decision(self, asked: Delivery, name: ObjectName, subresource: str) -> None:
        """What the scheduler, asked afterwards, says of the decision that it acts upon here."""
        who, decision = self._decisions.get(f"{name.namespace}/{name.name}", ("", None))
        if decision is None or name.kind != "Pod" or asked.sender != who:
            return
        if bool(decision.node) != (subresource == "binding"):
            return
        content: Content = (("the scheduler's explanation, asked for afterwards", plain(decision)),)
        text = f"decides where {name} runs: {decision_text(decision)}"
        self.steps.append(Step(asked.seconds, "decide", actor_of(who), (), text, (name,), content=content))
        if not decision.node:
            # The condition is written again at each attempt; the decision is told once.
            del self._decisions[f"{name.namespace}/{name.name}"]

    def _tell_writes(self, asked: Delivery) -> None:
        origin = self._origins.get(asked.ask)
        for write in self._writes_of[asked.ask]:
            objects = (write.name,)
            steps: list[Step] = []
            if origin is not None and write.old is None and write.object is not None:
                steps.append(admit_step(origin, write, objects))
            replication = self.replications[asked.ask]
            steps.append(store_step(self.told, write, replication, objects, self._members))
            uid = str(write.known["metadata"].get("uid"))
            if origin is not None and (uid, str(write.revision)) not in self._seen:
                # Nobody else learns of it: a detail of the request.
                self._details.setdefault(origin.ask, []).extend(steps)
            else:
                self.steps.extend(steps)

    def _tell_news(self, news: Told) -> None:
        name = name_of(news.object)
        if name not in self.found:
            return
        metadata = news.object["metadata"]
        write = self._done.get((str(metadata.get("uid")), str(metadata.get("resourceVersion"))))
        self.steps.append(watch_step(news, name, write, self.nodes))

    # -- everything else

    def _tell_message(self, delivery: Delivery) -> None:
        answered = self.told.answer(delivery)
        answer = None if answered is None else answered.message
        message = delivery.message
        if isinstance(message, ReplaceRules):
            rules, objects = rules_about(message, self.found)
            text = rules_text(self._rules.get(delivery.receiver, {}), rules)
            self._rules[delivery.receiver] = rules
            if text:
                self._add(delivery, answered, "dataplane", text, objects or self._services(), "applied")
        elif isinstance(message, Query):
            question = dns_question(message)
            service = dns_service(question, self.found)
            if service is not None:
                self._add(delivery, answered, "dns", f"what is {question}?", (service,), dns_answer(answer))
        else:
            self._tell_mention(delivery, answered, answer)

    def _services(self) -> tuple[ObjectName, ...]:
        return tuple(name for name in self.found.names if name.kind == "Service")

    def _tell_mention(self, delivery: Delivery, answered: Delivery | None, answer: Any) -> None:
        """A message that mentions an object of the story, unless it stays inside of one component."""
        message = delivery.message
        objects = self.found.about(message)
        if isinstance(message, PullImage) and not objects:
            node = actor_of(delivery.receiver).split("/")[0]
            needed_by = self.found.images.get(message.image.image, {})
            objects = tuple(name for name, where in needed_by.items() if where == node)
        sender, receiver = self.told.writer(delivery), self.told.reader(delivery)
        if not objects or _component(sender) == _component(receiver):
            return
        if isinstance(answer, ApiResponse):
            return
        again = orjson.dumps([sender, receiver, plain(message), plain(answer)])
        if again in self._repeated:
            # The same question and the same answer (a probe, for instance) is no news.
            return
        self._repeated.add(again)
        kind, text, outcome = describe(message, answer, self.found.titles)
        self._add(delivery, answered, kind, text, objects, outcome)

    def _add(
        self,
        delivery: Delivery,
        answered: Delivery | None,
        kind: str,
        text: str,
        objects: tuple[ObjectName, ...],
        outcome: str,
    ) -> None:
        answer = None if answered is None else answered.message
        failed = isinstance(answer, BaseException)
        content: Content = (("message", plain(delivery.message)),)
        if answered is not None:
            content += ((f"answer: {answer}" if failed else "answer", plain(answer)),)
        elif delivery.ask:
            outcome = "no answer"
        self.steps.append(
            Step(
                delivery.seconds,
                kind,
                actor_of(self.told.writer(delivery)),
                (actor_of(self.told.reader(delivery)),),
                text,
                objects,
                outcome if delivery.ask else "",
                elapsed_ms(delivery, answered),
                failed,
                content,
            )
        )


def _actors(deliveries: Sequence[Delivery]) -> Iterator[str]:
    for delivery in deliveries:
        if not delivery.channel:
            yield actor_of(delivery.sender)
            yield actor_of(delivery.receiver)


def _component(path: str) -> str:
    """The component that an actor is part of: the first two names of its path."""
    return "/".join(path.split("/")[:3]) or OUTSIDE
