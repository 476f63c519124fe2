"""The main job by an unmodified kubectl, command by command."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from .conftest import Kubectl

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  containers:
  - name: web
    image: nginx:1.27
    ports: [{containerPort: 80}]
"""

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: site
spec:
  replicas: 1
  selector: {matchLabels: {app: site}}
  template:
    metadata: {labels: {app: site}}
    spec:
      containers:
      - name: web
        image: nginx:1.27
"""


def column(table: str, name: str) -> list[str]:
    """One column of a printed table."""
    head, *rows = [line for line in table.splitlines() if line.strip()]
    start = head.index(name)
    return [row[start:].split()[0] for row in rows]


def test_looking_around(kubectl: Kubectl) -> None:
    nodes = kubectl("get", "nodes")
    assert column(nodes, "STATUS") == ["Ready"] * 3
    assert column(nodes, "ROLES") == ["worker"] * 3
    assert all(version.startswith("v1.36.") for version in column(nodes, "VERSION"))
    assert all(age[-1] in "smh" for age in column(nodes, "AGE"))
    kubectl("get", "pods", "-A")
    assert "is running at https://127.0.0.1:" in kubectl("cluster-info")
    resources = kubectl("api-resources")
    assert {"pods", "deployments", "services", "endpointslices"} <= {
        line.split()[0] for line in resources.splitlines()[1:]
    }
    assert "Server Version: v1.36." in kubectl("version")


def test_a_pod_from_a_file(kubectl: Kubectl) -> None:
    assert "pod/web created" in kubectl("create", "-f", "-", stdin=POD)
    kubectl("wait", "pod/web", "--for=condition=Ready", "--timeout=20s")
    wide = kubectl("get", "pod", "-o", "wide")
    assert column(wide, "STATUS") == ["Running"]
    assert column(wide, "READY") == ["1/1"]
    assert column(wide, "IP")[0].startswith("10.244.")
    assert column(wide, "NODE")[0].startswith("node-")
    assert "podIP: 10.244." in kubectl("get", "pod", "web", "-o", "yaml")
    described = kubectl("describe", "pod", "web")
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        assert reason in described
    assert "Started" in kubectl("get", "events")
    kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods/web:80/proxy/hello")
    assert '"GET /hello HTTP/1.1" 200' in kubectl("logs", "web")
    assert kubectl("delete", "pod", "web").startswith('pod "web" deleted')
    assert kubectl.run("get", "pod", "web").returncode == 1


def test_watching_a_pod_come_and_go(kubectl: Kubectl) -> None:
    watch = kubectl.popen("get", "pods", "-w")
    try:
        kubectl("create", "-f", "-", stdin=POD)
        kubectl("wait", "pod/web", "--for=condition=Ready", "--timeout=20s")
        kubectl("delete", "pod", "web", "--now")
        seen = []
        assert watch.stdout is not None
        for line in watch.stdout:
            if line.startswith("web"):
                seen.append(line.split()[2])
            if seen and seen[-1] in ("Terminating", "Completed"):
                break
    finally:
        watch.kill()
        watch.communicate()
    assert seen[0] == "Pending"
    assert "Running" in seen


def test_following_a_log(kubectl: Kubectl) -> None:
    script = "echo one; sleep 1; echo two; sleep 1; echo three"
    kubectl("run", "talker", "--image=busybox", "--restart=Never", "--", "sh", "-c", script)
    kubectl("wait", "pod/talker", "--for=jsonpath={.status.phase}=Running", "--timeout=20s")
    assert kubectl("logs", "-f", "talker").splitlines() == ["one", "two", "three"]
    assert kubectl("logs", "talker", "--tail=1").splitlines() == ["three"]
    kubectl("wait", "pod/talker", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s")
    assert column(kubectl("get", "pod", "talker"), "STATUS") == ["Completed"]


def test_small_objects_and_permissions(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=blue")
    kubectl("create", "secret", "generic", "password", "--from-literal=word=hush")
    kubectl("create", "serviceaccount", "robot")
    assert kubectl("get", "configmap", "settings", "-o", "jsonpath={.data.colour}") == "blue"
    assert kubectl("get", "secret", "password", "-o", "jsonpath={.data.word}") == "aHVzaA=="
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    robot = f"system:serviceaccount:{kubectl.namespace}:robot"
    refused = kubectl.run("auth", "can-i", "create", "pods", "--as", robot)
    assert (refused.returncode, refused.stdout.strip()) == (1, "no")
    token = kubectl("create", "token", "robot").strip()
    denied = kubectl.run("get", "pods", "--token", token)
    assert denied.returncode in (0, 1)


@pytest.mark.parametrize(
    "command",
    [
        ("exec", "web", "--", "date"),
        ("attach", "web"),
        ("port-forward", "web", "0:80"),
    ],
)
def test_sessions_are_refused_clearly(kubectl: Kubectl, command: tuple[str, ...]) -> None:
    kubectl("create", "-f", "-", stdin=POD)
    kubectl("wait", "pod/web", "--for=condition=Ready", "--timeout=20s")
    refused = kubectl.run(*command)
    assert refused.returncode == 1
    assert "not served by this version of Understudy" in refused.stderr


def test_a_deployment_through_its_life(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "my-app", "--image=nginx", "--replicas=2")
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/my-app", "--timeout=30s")
    pods = kubectl.json("get", "pods", "-l", "app=my-app")["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 2
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    assert len({pod["status"]["podIP"] for pod in pods}) == 2
    kubectl("get", "deploy,rs,pods", "-o", "wide")

    kubectl("scale", "deployment/my-app", "--replicas=4")
    kubectl("rollout", "status", "deployment/my-app", "--timeout=30s")
    assert column(kubectl("get", "deployment", "my-app"), "READY") == ["4/4"]

    kubectl("set", "image", "deployment/my-app", "nginx=nginx:1.28")
    kubectl("rollout", "status", "deployment/my-app", "--timeout=30s")
    assert _images(kubectl) == {"nginx:1.28"}

    kubectl("rollout", "undo", "deployment/my-app")
    kubectl("rollout", "status", "deployment/my-app", "--timeout=30s")
    assert _images(kubectl) == {"nginx"}

    kubectl("delete", "deployment", "my-app")
    kubectl("wait", "--for=delete", "pod", "-l", "app=my-app", "--timeout=60s")
    kubectl("wait", "--for=delete", "rs", "-l", "app=my-app", "--timeout=60s")


def _images(kubectl: Kubectl) -> set[str]:
    pods = kubectl.json("get", "pods", "-l", "app=my-app")["items"]
    return {
        pod["spec"]["containers"][0]["image"] for pod in pods if "deletionTimestamp" not in pod["metadata"]
    }


def test_applying_and_editing(kubectl: Kubectl, tmp_path: Path) -> None:
    assert "created" in kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("replicas: 1", "replicas: 2")
    assert "configured" in kubectl("apply", "-f", "-", stdin=changed)
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=changed)
    kubectl("wait", "deployment/site", "--for=condition=Available", "--timeout=30s")
    assert kubectl("get", "deployment", "site", "-o", "jsonpath={.spec.replicas}") == "2"

    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", stdin=changed)
    conflict = kubectl.run(
        "apply",
        "--server-side",
        "--field-manager=other",
        "-f",
        "-",
        stdin=DEPLOYMENT.replace("replicas: 1", "replicas: 5"),
    )
    assert conflict.returncode != 0
    assert "conflict" in conflict.stderr

    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/nginx:1.27/nginx:1.28/" "$1"\n')
    editor.chmod(0o755)
    assert "edited" in kubectl("edit", "deployment", "site", KUBE_EDITOR=str(editor))
    assert kubectl("get", "deployment", "site", "-o", "jsonpath={..image}") == "nginx:1.28"

    kubectl("label", "deployment", "site", "tier=front")
    assert "site" in kubectl("get", "deployment", "-l", "tier=front")
    kubectl("annotate", "deployment", "site", "note=hello")
    assert "spec.replicas" not in kubectl("diff", "-f", "-", stdin=changed, check=False)


def test_reaching_a_service_from_outside(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "my-app", "--image=nginx", "--replicas=2")
    kubectl("rollout", "status", "deployment/my-app", "--timeout=30s")
    assert "exposed" in kubectl("expose", "deployment", "my-app", "--port=80")
    service = kubectl.json("get", "service", "my-app")
    cluster_ip = service["spec"]["clusterIP"]
    assert cluster_ip.startswith("10.96.")
    ips = {pod["status"]["podIP"] for pod in kubectl.json("get", "pods")["items"]}
    kubectl(
        "wait", "endpointslice", "-l", "kubernetes.io/service-name=my-app", "--for=jsonpath={.endpoints[1]}"
    )
    endpoints = kubectl.json("get", "endpoints", "my-app")
    assert {a["ip"] for s in endpoints["subsets"] for a in s["addresses"]} == ips
    slices = kubectl.json("get", "endpointslices", "-l", "kubernetes.io/service-name=my-app")["items"]
    assert {a for s in slices for e in s["endpoints"] for a in e["addresses"]} == ips

    host, port = kubectl.dns
    name = f"my-app.{kubectl.namespace}.svc.cluster.local"
    for transport in ("+notcp", "+tcp"):
        answer = subprocess.run(
            ["dig", f"@{host}", "-p", str(port), name, "+short", transport],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        assert answer.stdout.strip() == cluster_ip

    # kube-proxy gathers changes for up to a second (its minSyncPeriod), so the first try may be refused.
    script = "for i in 1 2 3 4 5 6; do wget -qO- http://my-app:80/ && exit 0; sleep 1; done; exit 1"
    kubectl("run", "inside", "--image=busybox", "--restart=Never", "--", "sh", "-c", script)
    kubectl("wait", "pod/inside", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s")
    assert kubectl("logs", "inside").splitlines()[-1].startswith("my-app-")

    path = f"/api/v1/namespaces/{kubectl.namespace}/services/my-app:80/proxy/"
    names = {pod["metadata"]["name"] for pod in kubectl.json("get", "pods")["items"]}
    answered = Counter(kubectl("get", "--raw", path).strip() for _ in range(12))
    assert set(answered) <= names


def test_scripted_failures_can_be_seen(kubectl: Kubectl) -> None:
    kubectl("run", "crash", "--image=understudy.dev/fake/crash")
    kubectl("run", "missing", "--image=understudy.dev/fake/pull-error")
    kubectl("run", "done", "--image=understudy.dev/fake/completes", "--restart=Never")
    kubectl("run", "unready", "--image=understudy.dev/fake/never-ready")
    for pod, state in (
        ("crash", "{.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff"),
        ("missing", "{.status.containerStatuses[0].state.waiting.reason}=ErrImagePull"),
        ("done", "{.status.phase}=Succeeded"),
        ("unready", "{.status.phase}=Running"),
    ):
        kubectl("wait", f"pod/{pod}", f"--for=jsonpath={state}", "--timeout=40s")
    shown = kubectl("get", "pods")
    by_name = dict(zip(column(shown, "NAME"), column(shown, "STATUS"), strict=True))
    assert by_name["crash"] in ("CrashLoopBackOff", "Error")
    assert by_name["missing"] in ("ErrImagePull", "ImagePullBackOff")
    assert by_name["done"] == "Completed"


def test_a_pod_that_fits_nowhere_says_why(kubectl: Kubectl) -> None:
    kubectl("run", "big", "--image=nginx", "--overrides", '{"spec":{"nodeSelector":{"disk":"fast"}}}')
    kubectl("wait", "pod/big", "--for=condition=PodScheduled=false", "--timeout=20s")
    assert "0/3 nodes are available" in kubectl("describe", "pod", "big")
    kubectl("label", "node", "node-2", "disk=fast")
    try:
        kubectl("wait", "pod/big", "--for=condition=Ready", "--timeout=30s")
    finally:
        kubectl("label", "node", "node-2", "disk-")
    assert kubectl("get", "pod", "big", "-o", "jsonpath={.spec.nodeName}") == "node-2"
