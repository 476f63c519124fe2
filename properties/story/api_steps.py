"""What is said to the API server, and what it tells those who watch."""

from collections.abc import Sequence
from typing import Any

import orjson
from attrs import define, field, frozen

from understudy.actors.system import Delivery
from understudy.components.apiserver.routing import RequestInfo
from understudy.components.machinery.api import ApiRequest, ApiResponse, Object

from .changes import changes, summary
from .lanes import component
from .lineage import answer_body, body_of
from .recording import Recording
from .step import Content, ObjectName, Step, actor_of
from .store_writes import Write
from .values import plain

WATCHED_EVENTS = frozenset({"ADDED", "MODIFIED", "DELETED"})


@define(eq=False)
class Told:
    """One change of one object, and everybody who was told of it by a watch."""

    type: str
    object: Object
    deliveries: list[tuple[Delivery, str]] = field(factory=list)
    """In order, each with the path of its reader."""


@frozen(eq=False)
class WatchIndex:
    """Watch events by the channel item that brought them, and by object."""

    first: dict[int, list[Told]]
    """By the position of a delivery: the changes of which it was the first news."""
    revisions: frozenset[tuple[str, str]]
    """UID and resourceVersion of everything that somebody was told of."""


def watch_index(told: Recording) -> WatchIndex:
    """Read what the API server wrote into its watch streams."""
    rest: dict[int, bytes] = {}
    known: dict[tuple[str, str, str], Told] = {}
    first: dict[int, list[Told]] = {}
    for position, delivery in enumerate(told.deliveries):
        if not delivery.channel or not isinstance(delivery.message, bytes):
            continue
        opener = told.openers.get(delivery.channel)
        if opener is None or not isinstance(opener.message, ApiRequest) or not opener.sender:
            continue
        *lines, rest[delivery.channel] = (rest.get(delivery.channel, b"") + delivery.message).split(b"\n")
        for line in lines:
            event = _event(line)
            if event is None:
                continue
            metadata = event["object"]["metadata"]
            key = (event["type"], str(metadata.get("uid")), str(metadata.get("resourceVersion")))
            if key not in known:
                known[key] = Told(event["type"], event["object"])
                first.setdefault(position, []).append(known[key])
            known[key].deliveries.append((delivery, opener.sender))
    return WatchIndex(first, frozenset((uid, revision) for _, uid, revision in known))


def _event(line: bytes) -> dict[str, Any] | None:
    if not line:
        return None
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None  # A log, or another stream that is not a watch.
    if not isinstance(event, dict) or event.get("type") not in WATCHED_EVENTS:
        return None
    return event if "metadata" in event.get("object", {}) else None


def watch_step(seen: Told, name: ObjectName, write: Write | None, nodes: frozenset[str]) -> Step:
    """Everybody who was told of one change, and the write that it is of.

    Controllers share the watches of their manager. Who watches a selection is told ADDED and DELETED when an
    object comes to match it, or does no longer.
    """
    words = {"ADDED": "is new", "MODIFIED": "is changed", "DELETED": "is gone"}
    text = f"{name} {words[seen.type]}"
    if write is not None and write.object is not None and write.old is not None:
        views = {"ADDED": "comes into view", "MODIFIED": "is changed", "DELETED": "goes out of view"}
        said = summary(changes(write.old, write.object), 2)
        text = f"{name} {views[seen.type]}" + (f": {said}" if said else "")
    start = seen.deliveries[0][0]
    readers = tuple(dict.fromkeys(component(actor_of(reader), nodes) for _, reader in seen.deliveries))
    when: dict[str, str] = {}
    for delivery, reader in seen.deliveries:
        after = f"after {(delivery.seconds - start.seconds) * 1000:.1f} ms"
        when.setdefault(component(actor_of(reader), nodes), after)
    content: Content = ((f"watch event {seen.type}", seen.object),)
    if len(readers) > 1:
        content = (("arrived", when), *content)
    return Step(start.seconds, "watch", "kube-apiserver", readers, text, (name,), content=content)


def request_step(
    asked: Delivery,
    answered: Delivery | None,
    info: RequestInfo,
    name: ObjectName,
    objects: tuple[ObjectName, ...],
    write: Write | None,
) -> Step:
    """Somebody asks the API server to change something."""
    body = body_of(asked.message)
    text = _asked_text(asked, info, name, body, write, answered)
    outcome, failed = _outcome(answered)
    content: list[tuple[str, Any]] = [(f"{asked.message.method} {asked.message.path}", _head(asked.message))]
    if body is not None:
        content.append(("request body", body))
    reply = answer_body(answered)
    if reply is not None:
        content.append((f"answer: {outcome}", reply))
    return Step(
        asked.seconds,
        "event" if name.kind == "Event" else "request",
        actor_of(asked.sender),
        (actor_of(asked.receiver),),
        text,
        objects,
        outcome,
        elapsed_ms(asked, answered),
        failed,
        tuple(content),
    )


def elapsed_ms(asked: Delivery, answered: Delivery | None) -> float | None:
    """How long an answer took."""
    return None if answered is None else (answered.seconds - asked.seconds) * 1000.0


def _head(request: ApiRequest) -> Any:
    head: dict[str, Any] = {}
    if request.peer is not None:
        head["identity"] = plain(request.peer)
        head["identity"].pop("message")
    if request.query:
        head["query"] = dict(request.query)
    head["headers"] = {key: value for key, value in request.headers if key != "authorization"}
    return head


def _outcome(answered: Delivery | None) -> tuple[str, bool]:
    if answered is None:
        return "no answer", True
    response = answered.message
    if not isinstance(response, ApiResponse):
        return str(response), True
    if response.status < 400:
        return str(response.status), False
    status = answer_body(answered) or {}
    return f"{response.status} {status.get('reason', '')}: {status.get('message', '')}", True


def _asked_text(
    asked: Delivery,
    info: RequestInfo,
    name: ObjectName,
    body: Object | None,
    write: Write | None,
    answered: Delivery | None,
) -> str:
    if name.kind == "Event":
        event = (write.known if write is not None else body) or {}
        regarding = event.get("involvedObject") or event.get("regarding") or {}
        about = ObjectName(
            regarding.get("kind", ""), regarding.get("namespace", ""), regarding.get("name", "")
        )
        said = event.get("message") or event.get("note") or ""
        return f"event about {about}: {event.get('reason', '')}: {said}"
    if info.subresource == "binding":
        target = ((body or {}).get("target") or {}).get("name", "?")
        return f"bind {name} to {target}"
    if info.subresource == "eviction":
        return f"evict {name}"
    if info.verb == "create":
        what = f"{info.subresource} of " if info.subresource else ""
        return f"create {what}{name}{_for_owner(body)}"
    if info.verb in ("delete", "deletecollection"):
        return f"delete {name}"
    applied = info.verb == "patch" and "apply-patch" in (asked.message.header("content-type") or "")
    verb = "apply" if applied else "change"
    if info.subresource == "status":
        verb = "report status of"
    elif info.subresource:
        verb = f"change {info.subresource} of"
    if write is None or write.object is None:
        done = answered is not None and isinstance(answered.message, ApiResponse)
        same = done and answered is not None and answered.message.status < 400
        return f"{verb} {name}" + (": nothing new" if same else "")
    said = summary(changes(write.old, write.object)) if write.old is not None else ""
    return f"{verb} {name}" + (f": {said}" if said else "")


def _for_owner(body: Object | None) -> str:
    for owner in ((body or {}).get("metadata") or {}).get("ownerReferences") or ():
        if owner.get("controller"):
            return f" for {str(owner.get('kind', '')).lower()}/{owner.get('name', '')}"
    return ""


def admit_step(asked: Delivery, write: Write, objects: tuple[ObjectName, ...]) -> Step:
    """The change reached the store, so the API server had let it through; and what it had added to it."""
    peer = asked.message.peer
    user = f" for {peer.user}" if peer is not None else ""
    body = body_of(asked.message) or {}
    added = changes(body, write.object) if write.object is not None else []
    text = f"admits and validates {write.name}{user}"
    if added:
        text += f"; adds {summary(added, 5)}"
    content: Content = (
        ("added or changed by the API server", added),
        ("as it is to be stored", write.object),
    )
    return Step(write.asked.seconds, "admit", actor_of(asked.receiver), (), text, objects, content=content)


def claims(
    told: Recording, requests: Sequence[tuple[Delivery, ObjectName]], writes: Sequence[Write]
) -> dict[int, list[Write]]:
    """Which writes came of which request, by the request's ask.

    A write belongs to the request about its object that was under way; when there are several, to the one
    whose answer bears the revision, else to the oldest that has none yet.
    """
    found: dict[int, list[Write]] = {}
    taken: set[int] = set()
    by_name: dict[ObjectName, list[tuple[Delivery, Delivery | None, Object]]] = {}
    for asked, name in requests:
        answered = told.answer(asked)
        metadata = (answer_body(answered) or {}).get("metadata") or {}
        by_name.setdefault(name, []).append((asked, answered, metadata))
    for write in writes:
        under_way = [
            (asked, metadata)
            for asked, answered, metadata in by_name.get(write.name, ())
            if asked.seconds <= write.asked.seconds
            and (answered is None or write.asked.seconds <= answered.seconds)
        ]
        exact = [
            asked for asked, metadata in under_way if metadata.get("resourceVersion") == str(write.revision)
        ]
        free = [asked for asked, _ in under_way if asked.ask not in taken]
        chosen = exact or (free if write.revision else [asked for asked, _ in under_way])
        if chosen:
            found.setdefault(chosen[0].ask, []).append(write)
            if write.revision:
                taken.add(chosen[0].ask)
    return found
