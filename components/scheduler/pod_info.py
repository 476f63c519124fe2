"""A pod as the scheduler sees it: everything that filters and scores ask for, worked out once."""

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from understudy.components.scheduler.requirements import (
    NodeSelectorTerm,
    Requirement,
    Selector,
    label_selector,
    node_selector_term,
)
from understudy.components.scheduler.resources import Amounts, nonzero_requests, pod_requests

Object = dict[str, Any]
Labels = tuple[tuple[str, str], ...]

HostPort = tuple[str, str, int]
"""(address, protocol, port); the address is "0.0.0.0" when the pod names none."""

DEFAULT_SCHEDULER = "default-scheduler"


@frozen
class Toleration:
    key: str
    operator: str
    value: str
    effect: str

    def tolerates(self, taint: "Taint") -> bool:
        """An empty effect or key stands for all of them, the latter only with `Exists`."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        if self.operator in ("Lt", "Gt"):
            return self._compares(taint.value)
        return bool(self.key) and self.value == taint.value

    def _compares(self, value: str) -> bool:
        try:
            have, bound = int(value), int(self.value)
        except ValueError:
            return False
        return have < bound if self.operator == "Lt" else have > bound


@frozen
class Taint:
    key: str
    value: str
    effect: str


@frozen
class TopologyConstraint:
    """One `topologySpreadConstraints` entry."""

    topology_key: str
    max_skew: int
    required: bool
    selector: Selector
    min_domains: int = 1
    honor_node_affinity: bool = True
    honor_taints: bool = False


@frozen
class AffinityTerm:
    """A `PodAffinityTerm` with the namespaces it is about."""

    topology_key: str
    selector: Selector
    namespaces: frozenset[str]
    namespace_selector: Selector | None
    weight: int = 0

    def selects(self, namespace: str, namespace_labels: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        """Whether a pod in that namespace with those labels is meant."""
        in_scope = namespace in self.namespaces or (
            self.namespace_selector is not None and self.namespace_selector.matches(namespace_labels)
        )
        return in_scope and self.selector.matches(labels)


@frozen
class PodInfo:
    """A parsed pod. Equality is by value, so it is compared by `key`."""

    key: str
    """Its UID; `namespace/name` for a pod that never was in an API server."""
    namespace: str
    name: str
    node_name: str
    labels: Mapping[str, str]
    group: tuple[str, Labels, bool]
    """(namespace, sorted labels, terminating): pods of one group look the same to every selector."""
    priority: int
    preemption_policy: str
    scheduler_name: str
    creation_timestamp: str
    start_time: str
    terminating: bool
    terminated: bool
    gated: bool
    nominated_node: str
    requests: Amounts
    nonzero: tuple[int, int]
    host_ports: tuple[HostPort, ...]
    tolerations: tuple[Toleration, ...]
    node_selector: Selector
    required_node_terms: tuple[NodeSelectorTerm, ...] | None
    preferred_node_terms: tuple[tuple[int, NodeSelectorTerm], ...]
    spread: tuple[TopologyConstraint, ...]
    pod_affinity: tuple[AffinityTerm, ...]
    pod_anti_affinity: tuple[AffinityTerm, ...]
    preferred_pod_affinity: tuple[AffinityTerm, ...]
    """Negative weights are anti-affinity."""
    images: tuple[str, ...]
    owner: tuple[str, str] | None
    """(kind, name) of the controller."""

    def tolerates(self, taint: Taint) -> bool:
        return any(toleration.tolerates(taint) for toleration in self.tolerations)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def pod_info(pod: Mapping[str, Any]) -> PodInfo:
    """Parse a `v1.Pod`."""
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    namespace = meta.get("namespace") or "default"
    labels: dict[str, str] = meta.get("labels") or {}
    terminating = bool(meta.get("deletionTimestamp"))
    affinity = spec.get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    near, far = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    controller = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return PodInfo(
        key=meta.get("uid") or f"{namespace}/{meta['name']}",
        namespace=namespace,
        name=meta["name"],
        node_name=spec.get("nodeName") or "",
        labels=labels,
        group=(namespace, tuple(sorted(labels.items())), terminating),
        priority=spec.get("priority") or 0,
        preemption_policy=spec.get("preemptionPolicy") or "PreemptLowerPriority",
        scheduler_name=spec.get("schedulerName") or DEFAULT_SCHEDULER,
        creation_timestamp=meta.get("creationTimestamp") or "",
        start_time=status.get("startTime") or "",
        terminating=terminating,
        terminated=status.get("phase") in ("Succeeded", "Failed"),
        gated=bool(spec.get("schedulingGates")),
        nominated_node=status.get("nominatedNodeName") or "",
        requests=pod_requests(spec),
        nonzero=nonzero_requests(spec),
        host_ports=_host_ports(spec),
        tolerations=tuple(
            Toleration(
                t.get("key") or "", t.get("operator") or "Equal", t.get("value") or "", t.get("effect") or ""
            )
            for t in spec.get("tolerations") or ()
        ),
        node_selector=Selector().with_labels(spec.get("nodeSelector") or {}),
        required_node_terms=None
        if required is None
        else tuple(node_selector_term(t) for t in required.get("nodeSelectorTerms") or ()),
        preferred_node_terms=tuple(
            (p["weight"], node_selector_term(p["preference"]))
            for p in node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ),
        spread=tuple(_constraint(c, labels) for c in spec.get("topologySpreadConstraints") or ()),
        pod_affinity=_required_terms(near, namespace, labels),
        pod_anti_affinity=_required_terms(far, namespace, labels),
        preferred_pod_affinity=_preferred_terms(near, namespace, labels, 1)
        + _preferred_terms(far, namespace, labels, -1),
        images=tuple(normalized_image_name(c["image"]) for c in containers if c.get("image")),
        owner=None if controller is None else (controller["kind"], controller["name"]),
    )


def normalized_image_name(name: str) -> str:
    """The image name with `:latest` when it has neither tag nor digest, as node status lists it."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _host_ports(spec: Mapping[str, Any]) -> tuple[HostPort, ...]:
    """Ports taken on the node by containers and sidecars."""
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return tuple(
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in [*sidecars, *(spec.get("containers") or ())]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def _with_label_keys(
    selector: Selector, keys: list[str], labels: Mapping[str, str], operator_in: bool
) -> Selector:
    if operator_in:
        return selector.with_labels({key: labels[key] for key in keys if key in labels})
    more = tuple(Requirement(k, "NotIn", frozenset((labels[k],))) for k in keys if k in labels)
    return Selector(selector.requirements + more, selector.nothing)


def _constraint(entry: Mapping[str, Any], labels: Mapping[str, str]) -> TopologyConstraint:
    selector = label_selector(entry.get("labelSelector"))
    return TopologyConstraint(
        topology_key=entry["topologyKey"],
        max_skew=entry["maxSkew"],
        required=entry["whenUnsatisfiable"] == "DoNotSchedule",
        selector=_with_label_keys(selector, entry.get("matchLabelKeys") or [], labels, True),
        min_domains=entry.get("minDomains") or 1,
        honor_node_affinity=entry.get("nodeAffinityPolicy", "Honor") == "Honor",
        honor_taints=entry.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


def _affinity_term(
    term: Mapping[str, Any], namespace: str, labels: Mapping[str, str], weight: int = 0
) -> AffinityTerm:
    scope = term.get("namespaceSelector")
    names = term.get("namespaces") or ()
    selector = label_selector(term.get("labelSelector"))
    selector = _with_label_keys(selector, term.get("matchLabelKeys") or [], labels, True)
    selector = _with_label_keys(selector, term.get("mismatchLabelKeys") or [], labels, False)
    return AffinityTerm(
        topology_key=term["topologyKey"],
        selector=selector,
        namespaces=frozenset(names or ((namespace,) if scope is None else ())),
        namespace_selector=None if scope is None else label_selector(scope),
        weight=weight,
    )


def _required_terms(
    affinity: Mapping[str, Any], namespace: str, labels: Mapping[str, str]
) -> tuple[AffinityTerm, ...]:
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_affinity_term(term, namespace, labels) for term in terms)


def _preferred_terms(
    affinity: Mapping[str, Any], namespace: str, labels: Mapping[str, str], sign: int
) -> tuple[AffinityTerm, ...]:
    terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(
        _affinity_term(term["podAffinityTerm"], namespace, labels, sign * term["weight"]) for term in terms
    )
