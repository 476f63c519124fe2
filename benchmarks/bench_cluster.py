"""The whole cluster: start, first pod, many replicas, memory, and requests over HTTPS.

    python benchmarks/cluster.py [--seconds 3]

The peer is a real control plane (etcd, kube-apiserver, controller manager, scheduler, hollow nodes) measured
on the same kind of machine; it is not run here, so its figures are constants.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))
from load import Connection, rate, request, tls_context
from rows import Row, compared, report

PEER = "kube-apiserver 1.36"
# As installed: with compiled bytecode, which some build environments switch off.
ENVIRONMENT = {**os.environ, "PYTHONSAFEPATH": "1"}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)
GET_PEER = {1: 1240.0, 8: 3430.0, 32: 3950.0}
CREATE_PEER = {1: 690.0, 8: 1540.0, 32: 2120.0}
LIST_PEER = 42.0
TABLE_PEER = 73.0


@contextmanager
def running(nodes: int, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path, float]]:
    """A cluster in a process of its own; seconds from the process's start to its ready line."""
    kubeconfig = folder / f"kubeconfig-{nodes}"
    began = time.monotonic()
    options = ("--bind", "127.0.0.1:0", "--nodes", str(nodes), "--kubeconfig", str(kubeconfig))
    process = subprocess.Popen(
        [sys.executable, "-m", "understudy", "up", *options],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready in"):
            break
    else:
        raise SystemExit(f"understudy up ended with {process.wait()}")
    ready = time.monotonic() - began
    try:
        yield process, kubeconfig, ready
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def resident_mib(process: subprocess.Popen[str]) -> float:
    """Resident memory of a process."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def pod(name: str, namespace: str = "default") -> bytes:
    """A small pod that no scheduler takes."""
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}
    spec = {"schedulerName": "nobody", "containers": [container]}
    metadata = {"name": name, "namespace": namespace, "labels": {"app": "bench"}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).encode()


def deployment(name: str, replicas: int) -> bytes:
    labels = {"app": name}
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return json.dumps(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    ).encode()


async def first_pod(kubeconfig: Path) -> float:
    """Seconds from the creation of a pod to its phase Running."""
    context, host, port = tls_context(kubeconfig)
    connection = await Connection.open(context, host, port)
    body = pod("first").replace(b'"schedulerName": "nobody", ', b"")
    began = time.monotonic()
    status, answer = await connection.exchange(request("POST", "/api/v1/namespaces/default/pods", body))
    assert status == 201, answer
    while True:
        _, answer = await connection.exchange(request("GET", "/api/v1/namespaces/default/pods/first"))
        if b'"phase":"Running"' in answer:
            return time.monotonic() - began
        if time.monotonic() - began > 30:
            raise SystemExit(f"the first pod does not run: {answer!r}")
        await trio.sleep(0.002)


async def scale_up(kubeconfig: Path, name: str, replicas: int) -> float:
    """Seconds from the creation of a Deployment to all of its replicas being ready."""
    context, host, port = tls_context(kubeconfig)
    connection = await Connection.open(context, host, port)
    path = "/apis/apps/v1/namespaces/default/deployments"
    began = time.monotonic()
    status, answer = await connection.exchange(request("POST", path, deployment(name, replicas)))
    assert status == 201, answer
    while time.monotonic() - began < 300:
        _, answer = await connection.exchange(request("GET", f"{path}/{name}"))
        if json.loads(answer).get("status", {}).get("readyReplicas", 0) == replicas:
            return time.monotonic() - began
        await trio.sleep(0.05)
    raise SystemExit(f"{name}: {answer!r}")


def requests(kubeconfig: Path, seconds: float) -> list[Row]:
    """GET, create and LIST over HTTPS."""
    rows = []
    collection = "/api/v1/namespaces/default/pods"

    async def fill() -> None:
        context, host, port = tls_context(kubeconfig)
        connection = await Connection.open(context, host, port)
        for number in range(1000):
            body = pod(f"p-{number}", "bench")
            status, answer = await connection.exchange(request("POST", "/api/v1/namespaces/bench/pods", body))
            assert status in (201, 409), answer

    async def namespace() -> None:
        context, host, port = tls_context(kubeconfig)
        connection = await Connection.open(context, host, port)
        body = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}).encode()
        status, answer = await connection.exchange(request("POST", "/api/v1/namespaces", body))
        assert status == 201, answer
        body = json.dumps({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})
        await connection.exchange(request("POST", "/api/v1/namespaces/bench/serviceaccounts", body.encode()))

    trio.run(namespace)
    trio.run(fill)
    for connections, peer in GET_PEER.items():
        value = trio.run(
            rate, kubeconfig, connections, seconds, lambda n: request("GET", f"{collection}/first"), 200
        )
        rows.append(compared(f"GET, {connections} conn", value, "1/s", PEER, peer, less_is_better=False))
    for connections, peer in CREATE_PEER.items():
        value = trio.run(
            rate,
            kubeconfig,
            connections,
            seconds,
            lambda n, c=connections: request("POST", collection, pod(f"create-{c}-{n}")),
            201,
        )
        rows.append(
            compared(f"create pod, {connections} conn", value, "1/s", PEER, peer, less_is_better=False)
        )
    listing = "/api/v1/namespaces/bench/pods"
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    for what, accept, peer in (("JSON", "application/json", LIST_PEER), ("Table", table, TABLE_PEER)):
        value = trio.run(
            rate, kubeconfig, 8, seconds, lambda n, a=accept: request("GET", listing, accept=a), 200
        )
        rows.append(
            compared(f"LIST of 1,000 pods as {what}, 8 conn", value, "1/s", PEER, peer, less_is_better=False)
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each rate is measured")
    seconds = parser.parse_args().seconds
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starts = []
        with running(0, folder):
            pass  # writes what bytecode is missing
        for _ in range(5):
            with running(3, folder) as (process, kubeconfig, ready):
                starts.append((ready, trio.run(first_pod, kubeconfig)))
        ready, first = sorted(starts)[len(starts) // 2]
        row = compared(
            "process start to ready, 3 nodes, median of 5", ready, "s", PEER, 2.5, less_is_better=True
        )
        rows.append(Row(**{**_fields(row), "reach": "<= 1 s", "met": ready <= 1.0}))
        row = compared("ready to first pod Running", first, "s", PEER, 8.1 - 2.5, less_is_better=True)
        rows.append(Row(**{**_fields(row), "reach": "<= 1 s", "met": first <= 1.0}))
        with running(3, folder) as (process, kubeconfig, _):
            time.sleep(2)
            idle = resident_mib(process)
            row = compared("resident, idle, 3 nodes", idle, "MiB", PEER, 510.0, less_is_better=True)
            rows.append(Row(**{**_fields(row), "reach": "<= 150 MiB", "met": idle <= 150}))
            trio.run(first_pod, kubeconfig)
            rows += requests(kubeconfig, seconds)
        with running(20, folder) as (process, kubeconfig, _):
            hundred = trio.run(scale_up, kubeconfig, "hundred", 100)
            rows.append(
                compared("100 replicas Running, 20 nodes", hundred, "s", PEER, 4.2, less_is_better=True)
            )
            thousand = trio.run(scale_up, kubeconfig, "thousand", 1000)
            rows.append(
                compared("1,000 replicas Running, 20 nodes", thousand, "s", PEER, 50, less_is_better=True)
            )
            rows.append(Row("resident, 1,100 pods on 20 nodes", resident_mib(process), "MiB"))
    report("cluster", rows)


def _fields(row: Row) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__slots__ if not name.startswith("__")}


if __name__ == "__main__":
    main()
