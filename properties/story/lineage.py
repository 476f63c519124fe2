"""Which objects a story is about: those that somebody outside the cluster wrote, and all that came of them.

An object belongs to the story when an owner of it does, when it is the event or the endpoints of one that
does, or when its namespace does. What a message is about is told by the ids and addresses in it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from attrs import define, field

from understudy.actors.system import Delivery
from understudy.components.apiserver.routing import RequestInfo, classify
from understudy.components.boundary.cri import CreateContainer, CreateContainerReply
from understudy.components.machinery.api import ApiRequest, ApiResponse, Object
from understudy.components.machinery.json_text import MalformedText
from understudy.components.machinery.resources import lookup
from understudy.components.machinery.yaml_text import parse_yaml

from .recording import Recording
from .step import ObjectName
from .store_writes import Write, name_of
from .values import strings

CHANGING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
SERVICE_NAME_LABEL = "kubernetes.io/service-name"


@define(eq=False)
class Lineage:
    """The objects of a story."""

    names: dict[ObjectName, None] = field(factory=dict)
    identities: dict[str, ObjectName] = field(factory=dict)
    """UIDs, ids of sandboxes and containers, and whose they are."""
    addresses: dict[str, ObjectName] = field(factory=dict)
    """Of pods and Services. (A message that names its object may hold addresses of others.)"""
    images: dict[str, dict[ObjectName, str]] = field(factory=dict)
    """The pods that need an image, each with its node."""
    titles: dict[str, str] = field(factory=dict)
    """What a container of that id is called."""

    def __contains__(self, name: ObjectName) -> bool:
        return name in self.names

    def about(self, *messages: Any) -> tuple[ObjectName, ...]:
        """The objects of the story that messages mention."""
        found: dict[ObjectName, None] = {}
        addressed: dict[ObjectName, None] = {}
        for message in messages:
            for text in strings(message):
                name, address = self.identities.get(text), self.addresses.get(text.partition("/")[0])
                if name is not None:
                    found[name] = None
                elif address is not None:
                    addressed[address] = None
        return tuple(found or addressed)

    def learn(self, request: Any, answer: Any, names: Sequence[ObjectName]) -> None:
        """An answer gave new ids to what the request was about."""
        if len(names) != 1:
            return
        if isinstance(request, CreateContainer) and isinstance(answer, CreateContainerReply):
            self.titles[answer.container_id] = request.config.metadata.name
        for key, value in _ids(answer):
            if key.endswith("_id"):
                self.identities.setdefault(value, names[0])
            elif key == "address":
                self.addresses.setdefault(value.partition("/")[0], names[0])


def _ids(message: Any) -> Iterable[tuple[str, str]]:
    for name in getattr(message, "__slots__", ()) or getattr(message, "__dict__", ()):
        value = getattr(message, name, None)
        if isinstance(value, str) and value:
            yield name, value
        elif isinstance(value, tuple):
            for item in value:
                yield from _ids(item)


def lineage(told: Recording, writes: Sequence[Write], since_seconds: float) -> Lineage:
    """Find the objects of a story that begins at a monotonic time."""
    found = Lineage()
    for delivery in told.deliveries:
        if delivery.seconds < since_seconds:
            continue
        if not delivery.sender and not delivery.answer and isinstance(delivery.message, ApiRequest):
            root = request_object(delivery, told.answer(delivery))
            if root is not None and delivery.message.method in CHANGING_METHODS:
                found.names[root] = None
    states = {}
    for write in writes:
        for state in (write.object, write.old):
            if state is not None:
                states[id(state)] = state
    before = -1
    while before != len(found.names):
        before = len(found.names)
        for state in states.values():
            name = name_of(state)
            if name in found.names or _belongs(state, name, found):
                found.names[name] = None
                _identify(state, name, found)
    return found


def _belongs(obj: Object, name: ObjectName, found: Lineage) -> bool:
    metadata = obj["metadata"]
    if any(owner.get("uid") in found.identities for owner in metadata.get("ownerReferences") or ()):
        return True
    regarding = obj.get("involvedObject") or obj.get("regarding") or {}
    if regarding.get("uid") in found.identities:
        return True
    service = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
    if service is not None and ObjectName("Service", name.namespace, service) in found:
        return True
    if name.kind == "Endpoints" and ObjectName("Service", name.namespace, name.name) in found:
        return True
    return bool(name.namespace) and ObjectName("Namespace", "", name.namespace) in found


def _identify(obj: Object, name: ObjectName, found: Lineage) -> None:
    uid = obj["metadata"].get("uid")
    if uid:
        found.identities[uid] = name
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if name.kind == "Service":
        for ip in spec.get("clusterIPs") or (spec.get("clusterIP"),):
            if ip and ip != "None":
                found.addresses[ip] = name
    elif name.kind == "Pod":
        for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
            found.images.setdefault(str(container.get("image")), {})[name] = spec.get("nodeName", "")
    if name.kind == "Pod" and not spec.get("hostNetwork"):
        for entry in status.get("podIPs") or ():
            found.addresses[entry["ip"]] = name


def request_info(request: ApiRequest) -> RequestInfo | None:
    """What a request to the API server asks for; None when it is not about a resource."""
    info = classify(request)
    return info if info.is_resource else None


def request_object(asked: Delivery, answered: Delivery | None) -> ObjectName | None:
    """Which object a request is about; None for lists, watches and what is no object."""
    info = request_info(asked.message)
    if info is None:
        return None
    resource = lookup(info.group, info.version, info.plural)
    if resource is None:
        return None
    name = info.name
    if not name and info.verb == "create":
        body = body_of(asked.message)
        name = ((body or {}).get("metadata") or {}).get("name") or ""
        if not name:
            name = ((answer_body(answered) or {}).get("metadata") or {}).get("name") or ""
    if not name:
        return None
    return ObjectName(resource.kind, info.namespace if resource.namespaced else "", name, info.group)


def body_of(request: ApiRequest) -> Object | None:
    """The body of a request, when it is an object in JSON or YAML."""
    if not request.body:
        return None
    try:
        value = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        try:
            value, _ = parse_yaml(request.body)
        except MalformedText:
            return None
    return value if isinstance(value, dict) else None


def answer_body(answered: Delivery | None) -> Object | None:
    """The object that an answer of the API server holds."""
    if answered is None or not isinstance(answered.message, ApiResponse):
        return None
    try:
        value = orjson.loads(answered.message.body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
