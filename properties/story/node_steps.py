"""What the messages of the node's boundaries say: runtime, pod network, service dataplane, name server."""

from collections.abc import Mapping
from typing import Any

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from understudy.components.boundary import cni, cri, dataplane, name_server, podnet
from understudy.components.scheduler.explanation import Explain, Explanation
from understudy.mailbox import label

from .changes import summary
from .lineage import Lineage
from .step import ObjectName

READS = (
    cri.GetPodSandboxStatus,
    cri.ListPodSandbox,
    cri.ListContainers,
    cri.GetContainerStatus,
    cri.GetImageStatus,
    cri.ListImages,
    cri.Version,
    cri.Status,
    cri.StreamContainerLog,
    cri.GetContainerEvents,
    Explain,
)
"""Questions that change nothing."""

Described = tuple[str, str, str]
"""Kind of step, text, and what the answer says."""


def describe(message: Any, answer: Any, titles: Mapping[str, str]) -> Described:
    """What a message asks for, in words; `titles` are names of containers by id.

    Messages that are not known here are told by their wire name.
    """
    kind, text = _asked(message, titles)
    if isinstance(answer, BaseException):
        return kind, text, str(answer)
    return kind, text, _answered(answer)


def _asked(message: Any, titles: Mapping[str, str]) -> tuple[str, str]:
    def called(identity: str) -> str:
        return titles.get(identity) or identity[:12]

    match message:
        case cri.RunPodSandbox():
            return "runtime", f"RunPodSandbox for {message.config.metadata.name}"
        case cri.PullImage():
            return "runtime", f"PullImage {_image(message.image)}"
        case cri.CreateContainer():
            return (
                "runtime",
                f"CreateContainer {message.config.metadata.name} of {_image(message.config.image)}",
            )
        case cri.StartContainer():
            return "runtime", f"StartContainer {called(message.container_id)}"
        case cri.StopContainer():
            return (
                "runtime",
                f"StopContainer {called(message.container_id)} within {message.timeout_seconds:g} s",
            )
        case cri.RemoveContainer():
            return "runtime", f"RemoveContainer {called(message.container_id)}"
        case cri.StopPodSandbox() | cri.RemovePodSandbox():
            return "runtime", f"{type(message).__name__} {message.pod_sandbox_id[:12]}"
        case cri.ExecSync():
            return "runtime", f"ExecSync in {called(message.container_id)}: {' '.join(message.cmd)}"
        case cri.ContainerEvent():
            what = "sandbox" if message.container_id == message.pod_sandbox_id else "container"
            return "runtime", f"{what} {called(message.container_id)} {message.type.name.lower()}"
        case cni.Add() | cni.Del() | cni.Check():
            verb = {"Add": "ADD", "Del": "DEL", "Check": "CHECK"}[type(message).__name__]
            return "network", f"CNI {verb} {message.attachment.ifname} for {message.attachment.pod_name}"
        case podnet.Listen():
            return "network", f"answer for {message.ip}"
        case podnet.Unlisten():
            return "network", f"no longer answer for {message.ip}"
        case podnet.TcpConnect():
            return "network", f"connect to {message.ip}:{message.port} from {message.source_ip}"
        case podnet.AcceptTcp():
            return "network", f"accept the connection to {message.ip}:{message.port}"
        case podnet.HttpExchange():
            return "network", f"HTTP {message.method} {message.ip}:{message.port}{message.path}"
        case podnet.ServeHttp():
            at = message.exchange
            return "network", f"serve HTTP {at.method} {at.ip}:{at.port}{at.path}"
        case dataplane.Connect():
            return "dataplane", f"where does {message.destination_ip}:{message.destination_port} go?"
        case _:
            return "other", label(message)


def _image(image: cri.ImageSpec) -> str:
    return image.user_specified_image or image.image[:32]


def _answered(answer: Any) -> str:
    match answer:
        case None:
            return ""
        case cri.RunPodSandboxReply():
            return f"sandbox {answer.pod_sandbox_id[:12]}"
        case cri.CreateContainerReply():
            return f"container {answer.container_id[:12]}"
        case cri.PullImageReply():
            return answer.image_ref[:24]
        case cri.ExecSyncReply():
            return f"exit code {answer.exit_code}"
        case cni.Result():
            return ", ".join(ip.address for ip in answer.ips)
        case podnet.Connected():
            return f"connected to {answer.ip}:{answer.port}"
        case podnet.HttpAnswer():
            return str(answer.status)
        case dataplane.Verdict():
            to = f" to {answer.ip}:{answer.port}" if answer.ip else ""
            return f"{answer.action.value}{to}"
        case _:
            return "done"


# --------------------------------------------------------------------------- rules

Rules = dict[str, tuple[str, ...]]
"""Service port and its way in, to the endpoints that it leads to."""


def rules_about(message: dataplane.ReplaceRules, found: Lineage) -> tuple[Rules, tuple[ObjectName, ...]]:
    """The part of a rule set that is about the Services of a story."""
    rules: Rules = {}
    names: dict[ObjectName, None] = {}
    for rule in message.rules.services:
        service = ObjectName("Service", rule.service.namespace, rule.service.name)
        if service not in found:
            continue
        names[service] = None
        endpoints = tuple(f"{end.ip}:{end.port}" for end in rule.cluster_endpoints)
        for ip in rule.cluster_ips:
            rules[f"{ip}:{rule.port}/{rule.protocol.value}"] = endpoints
        if rule.node_port:
            outside = tuple(f"{end.ip}:{end.port}" for end in rule.external_endpoints)
            rules[f"node port {rule.node_port}/{rule.protocol.value}"] = outside
    return rules, tuple(names)


def rules_text(old: Rules, new: Rules) -> str:
    """What is different between two sets of rules; empty when nothing is."""
    said = [
        f"{way} to {', '.join(ends) or 'nobody (reject)'}"
        for way, ends in new.items()
        if old.get(way) != ends
    ]
    said += [f"no more {way}" for way in old if way not in new]
    return f"rules: {summary(said, 4)}" if said else ""


# --------------------------------------------------------------------------- names


def dns_question(query: name_server.Query) -> str:
    """The name that a query asks for, and the type; empty when it cannot be read."""
    try:
        question = DNSRecord.parse(query.query).q
    except (DNSError, IndexError):
        return ""
    return f"{str(question.qname).rstrip('.')} {QTYPE.get(question.qtype)}"


def dns_answer(answer: Any) -> str:
    """The addresses, or the code that says there is none."""
    if not isinstance(answer, name_server.Answered) or not answer.answer:
        return str(answer)
    try:
        record = DNSRecord.parse(answer.answer)
    except (DNSError, IndexError):
        return "unreadable"
    data = [str(entry.rdata) for entry in record.rr]
    return ", ".join(data) or str(RCODE.get(record.header.rcode))


def dns_service(question: str, found: Lineage) -> ObjectName | None:
    """The Service of the story that a question is about."""
    labels = question.partition(" ")[0].split(".")
    if len(labels) >= 3 and labels[2] == "svc":
        name = ObjectName("Service", labels[1], labels[0])
        return name if name in found else None
    return None


# --------------------------------------------------------------------------- decisions


def decision_text(decision: Explanation) -> str:
    """Why a pod goes where it goes, or nowhere."""
    feasible = [node for node in decision.nodes if not node.plugin]
    refused = [
        f"{node.node} refused by {node.plugin} ({', '.join(node.reasons)})"
        for node in decision.nodes
        if node.plugin
    ]
    if not decision.node:
        return f"nowhere: {decision.message}"
    text = f"{decision.node}, of {len(feasible)} that can run it"
    scored = sorted(
        ((sum(node.scores.values()), node.node) for node in feasible if node.scores),
        key=lambda s: (-s[0], s[1]),
    )
    if scored:
        text += " (" + ", ".join(f"{node} scores {score}" for score, node in scored[:5]) + ")"
    if refused:
        text += "; " + summary(refused, 3)
    return text
