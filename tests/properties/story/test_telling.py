"""What the story is, message by message: on deliveries made by hand."""

from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from attrs import define, field

from understudy.actors import ChannelWriter, Ref
from understudy.actors.system import ActorSystem, Delivery
from understudy.components.boundary import cri
from understudy.components.machinery.api import ApiRequest, ApiResponse, PeerIdentity
from understudy.components.scheduler.explanation import Explain, Explanation, NodeExplanation
from understudy.properties.story import Step, story
from understudy.raftstore.machine import Answer, Command
from understudy.raftstore.membership import Outcome, Outcomes, Packet, Submission, Submit
from understudy.raftstore.messages import AppendReply, AppendRequest, Entry
from understudy.raftstore.storage import Compare, Put, PutReply, Storage, Txn, TxnReply

ROUTER, LEADER, SERVER = "/etcd", "/etcd/member-1", "/kube-apiserver"
UID = "6a0a6b1c-0000-4000-8000-000000000001"


@define
class Tape:
    """Deliveries, one a millisecond."""

    deliveries: list[Delivery] = field(factory=list)
    asks: int = 0

    def now(self) -> float:
        return 100.0 + len(self.deliveries) / 1000.0

    def tell(self, sender: str, receiver: str, message: Any) -> None:
        self.deliveries.append(Delivery(self.now(), sender, receiver, message))

    def ask(self, sender: str, receiver: str, message: Any) -> Delivery:
        self.asks += 1
        self.deliveries.append(Delivery(self.now(), sender, receiver, message, self.asks))
        return self.deliveries[-1]

    def answer(self, asked: Delivery, message: Any) -> None:
        self.deliveries.append(
            Delivery(self.now(), asked.receiver, asked.sender, message, asked.ask, answer=True)
        )

    def item(self, channel: int, message: Any) -> None:
        self.deliveries.append(Delivery(self.now(), "a channel", "a channel", message, channel=channel))

    # -- the usual exchanges

    def request(self, sender: str, method: str, path: str, body: Any = None) -> Delivery:
        peer = PeerIdentity(sender.strip("/") or "kubernetes-admin", ())
        data = b"" if body is None else orjson.dumps(body)
        return self.ask(sender, SERVER, ApiRequest(method, path, (), (), data, peer))

    def respond(self, asked: Delivery, status: int, body: Any) -> None:
        self.answer(asked, ApiResponse(status, (), orjson.dumps(body)))

    def watch(self, reader: str, path: str, channel: int) -> None:
        writer: Any = ChannelWriter(cast(Any, SimpleNamespace(number=channel, label=path)))
        self.ask(reader, SERVER, ApiRequest("GET", path, (("watch", "true"),), stream=writer))

    def store(self, obj: dict[str, Any], key: str, revision: int, over: int = 0) -> Delivery:
        value = orjson.dumps(obj)
        compare = Compare(key.encode(), "mod" if over else "create", "=", over)
        asked = self.ask(SERVER, ROUTER, Txn((compare,), (Put(key.encode(), value),)))
        self.answer(asked, TxnReply(revision, bool(revision), (PutReply(revision),) if revision else ()))
        return asked

    def create(
        self, sender: str, path: str, obj: dict[str, Any], stored: dict[str, Any], revision: int
    ) -> None:
        asked = self.request(sender, "POST", path, obj)
        name = stored["metadata"]["name"]
        self.store(stored, f"/registry/{path.rpartition('/')[2]}/default/{name}", revision)
        self.respond(asked, 201, with_revision(stored, revision))


def with_revision(obj: dict[str, Any], revision: int) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}


def config_map(name: str, uid: str = "", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": "default", "uid": uid} if uid else {}), **more}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


def pod(name: str = "web", **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": UID}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status}


PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"


def texts(steps: tuple[Step, ...]) -> list[str]:
    return [f"{step.source}: {step.text}" for step in steps]


def test_a_change_that_nobody_watches_is_one_step_with_its_details_inside() -> None:
    tape = Tape()
    tape.create("", MAPS, config_map("a"), config_map("a", "u1"), 7)
    (step,) = story(tape.deliveries)
    assert (step.kind, step.source, step.targets) == ("request", "you", ("kube-apiserver",))
    assert (step.text, step.outcome, step.failed) == ("create configmap/a", "201", False)
    assert [child.kind for child in step.children] == ["admit", "store"]
    assert (
        step.children[0].text
        == "admits and validates configmap/a for kubernetes-admin; adds namespace=default"
    )
    assert (step.children[1].text, step.children[1].outcome) == ("put configmap/a (new)", "revision 7")


def test_only_what_came_of_the_objects_from_outside_is_told() -> None:
    tape = Tape()
    tape.create("", MAPS, config_map("a"), config_map("a", "u1"), 7)
    tape.create("/kube-controller-manager/x-controller", MAPS, config_map("b"), config_map("b", "u2"), 8)
    owned = config_map(
        "c", "u3", ownerReferences=[{"uid": "u1", "kind": "ConfigMap", "name": "a", "controller": True}]
    )
    asked = {
        **config_map("c"),
        "metadata": {"name": "c", "ownerReferences": owned["metadata"]["ownerReferences"]},
    }
    tape.create("/kube-controller-manager/x-controller", MAPS, asked, owned, 9)
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "node-1", "uid": "l"},
    }
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1"
    renewal = tape.request("/node-1/kubelet", "PUT", path, lease)
    tape.store(lease, "/registry/leases/kube-node-lease/node-1", 10)
    tape.respond(renewal, 200, lease)
    assert texts(story(tape.deliveries)) == [
        "you: create configmap/a",
        "kube-controller-manager/x-controller: create configmap/c for configmap/a",
    ]


def test_a_story_begins_when_it_is_said_to() -> None:
    tape = Tape()
    tape.create("", MAPS, config_map("a"), config_map("a", "u1"), 7)
    began = tape.now()
    tape.create("", MAPS, config_map("b"), config_map("b", "u2"), 8)
    assert texts(story(tape.deliveries, began)) == ["you: create configmap/b"]


def test_a_refusal_is_told_with_its_reason() -> None:
    tape = Tape()
    asked = tape.request("", "POST", MAPS, config_map("Bad_Name"))
    tape.respond(
        asked, 422, {"kind": "Status", "reason": "Invalid", "message": "metadata.name: Invalid value"}
    )
    (step,) = story(tape.deliveries)
    assert (step.failed, step.outcome) == (True, "422 Invalid: metadata.name: Invalid value")


def test_a_write_that_came_too_late_and_was_tried_again_is_told_twice() -> None:
    tape = Tape()
    tape.create("", MAPS, config_map("a"), config_map("a", "u1"), 7)
    asked = tape.request("", "PATCH", f"{MAPS}/a", {"data": {"a": "2"}})
    newer = {**config_map("a", "u1"), "data": {"a": "2"}}
    tape.store(newer, "/registry/configmaps/default/a", 0, over=6)
    tape.store(newer, "/registry/configmaps/default/a", 9, over=7)
    tape.respond(asked, 200, with_revision(newer, 9))
    change = story(tape.deliveries)[1]
    assert change.text == "change configmap/a: a=2"
    assert [(child.outcome, child.failed) for child in change.children] == [
        ("not done: it has changed meanwhile", True),
        ("revision 9", False),
    ]


def test_those_who_watch_are_told_in_one_step_and_half_lines_are_put_together() -> None:
    tape = Tape()
    tape.watch("/kube-scheduler", PODS, 1)
    tape.watch("/node-1/kubelet", PODS, 2)
    tape.create("", PODS, pod(), pod(), 7)
    line = orjson.dumps({"type": "ADDED", "object": with_revision(pod(), 7)}) + b"\n"
    tape.item(1, line[:20])
    tape.item(1, line[20:])
    tape.item(2, line)
    bookmark = {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "8"}}}
    tape.item(2, orjson.dumps(bookmark) + b"\n")
    steps = story(tape.deliveries)
    assert [step.kind for step in steps] == ["request", "admit", "store", "watch"]
    assert steps[-1].targets == ("kube-scheduler", "node-1/kubelet")
    assert steps[-1].text == "pod/web is new"


def test_the_schedulers_decision_stands_before_its_binding() -> None:
    tape = Tape()
    tape.create("", PODS, pod(), pod(), 7)
    bound = tape.request("/kube-scheduler", "POST", f"{PODS}/web/binding", {"target": {"name": "node-2"}})
    tape.respond(bound, 201, {"kind": "Status", "status": "Success"})
    nodes = (
        NodeExplanation("node-1", "TaintToleration", ("node(s) had untolerated taint {a: b}",)),
        NodeExplanation("node-2", "", (), {"NodeResourcesFit": 90, "ImageLocality": 5}),
    )
    asked = tape.ask("", "/kube-scheduler", Explain("default/web"))
    tape.answer(asked, Explanation("default/web", True, "node-2", "", nodes))
    decided, binding = story(tape.deliveries)[-2:]
    assert (decided.kind, decided.source) == ("decide", "kube-scheduler")
    assert decided.text == (
        "decides where pod/web runs: node-2, of 1 that can run it (node-2 scores 95);"
        " node-1 refused by TaintToleration (node(s) had untolerated taint {a: b})"
    )
    assert binding.text == "bind pod/web to node-2"


def test_the_runtime_is_followed_by_the_ids_that_it_answers() -> None:
    tape = Tape()
    tape.create("", PODS, pod(), pod(), 7)
    kubelet, runtime = "/node-1/kubelet/worker", "/node-1/cri"
    sandbox = cri.PodSandboxConfig(cri.PodSandboxMetadata("web", UID, "default"))
    asked = tape.ask(kubelet, runtime, cri.RunPodSandbox(sandbox))
    tape.answer(asked, cri.RunPodSandboxReply("sandbox-1"))
    config = cri.ContainerConfig(cri.ContainerMetadata("nginx"), cri.ImageSpec("nginx:1"))
    asked = tape.ask(kubelet, runtime, cri.CreateContainer("sandbox-1", config, sandbox))
    tape.answer(asked, cri.CreateContainerReply("container-1"))
    asked = tape.ask(kubelet, runtime, cri.StartContainer("container-1"))
    tape.answer(asked, cri.Done())
    asked = tape.ask(kubelet, runtime, cri.GetContainerStatus("container-1"))
    tape.answer(asked, cri.CriError(cri.CriCode.NOT_FOUND, "gone"))
    asked = tape.ask(kubelet, runtime, cri.StartContainer("of another pod"))
    tape.answer(asked, cri.Done())
    steps = [step for step in story(tape.deliveries) if step.kind == "runtime"]
    assert [(step.text, step.outcome) for step in steps] == [
        ("RunPodSandbox for web", "sandbox sandbox-1"),
        ("CreateContainer nginx of nginx:1", "container container-1"),
        ("StartContainer nginx", "done"),
    ]


def test_the_same_question_with_the_same_answer_is_told_once() -> None:
    tape = Tape()
    tape.create("", PODS, pod(), pod(), 7)
    sandbox = cri.PodSandboxConfig(cri.PodSandboxMetadata("web", UID, "default"))
    asked = tape.ask("/node-1/kubelet", "/node-1/cri", cri.RunPodSandbox(sandbox))
    tape.answer(asked, cri.RunPodSandboxReply("s"))
    for code in (0, 0, 1, 0):
        asked = tape.ask("/node-1/kubelet", "/node-1/cri", cri.ExecSync("s", ("check",)))
        tape.answer(asked, cri.ExecSyncReply(b"", b"", code))
    probes = [step.outcome for step in story(tape.deliveries) if step.text.startswith("ExecSync")]
    assert probes == ["exit code 0", "exit code 1"]


@pytest.mark.parametrize(("members", "committed_by"), [(3, "member-2"), (5, "member-3")])
def test_how_the_store_agrees_is_told_from_the_members_messages(members: int, committed_by: str) -> None:
    tape = Tape()
    asked = tape.request("", "POST", MAPS, config_map("a"))
    key, stored = b"/registry/configmaps/default/a", config_map("a", "u1")
    txn = Txn((Compare(key, "create", "=", 0),), (Put(key, orjson.dumps(stored)),))
    written = tape.ask(SERVER, ROUTER, txn)
    to: Ref[Storage] = Ref(ROUTER, cast(ActorSystem, None))
    tape.tell(ROUTER, LEADER, Submit(5, 0, (Submission(9, txn),), to))
    entry = Entry(34, 2, "normal", Command(5, 9, 0, txn), 100)
    others = range(2, members + 1)
    for other in others:
        append = AppendRequest(1, other, 2, 33, 2, (entry,), 33)
        tape.tell(LEADER, f"/etcd/member-{other}", Packet((append,)))
    for other in others:
        # An answer about an earlier entry is no answer about this one.
        tape.tell(f"/etcd/member-{other}", LEADER, Packet((AppendReply(other, 1, 2, 33),)))
        tape.tell(f"/etcd/member-{other}", LEADER, Packet((AppendReply(other, 1, 2, 34),)))
    reply = TxnReply(8, True, (PutReply(8),))
    tape.tell(LEADER, ROUTER, Outcomes(1, 5, (Outcome(9, Answer(reply)),)))
    tape.answer(written, reply)
    tape.respond(asked, 201, with_revision(stored, 8))
    (step,) = story(tape.deliveries)
    raft = step.children[1].children
    assert [child.text.split(":")[0] for child in raft] == [
        "propose it to the leader",
        *["append entry 34 of term 2"] * len(others),
        *["entry 34 of term 2 is in the log"] * len(others),
        "entry 34 of term 2 is applied",
    ]
    (commit,) = [child for child in raft if child.text.endswith("committed")]
    assert commit.source == f"etcd/{committed_by}"
    assert f"{members // 2 + 1} of {members} have it" in commit.text
