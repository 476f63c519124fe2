"""A kubelet against a real API server and a fake runtime, in virtual time."""

from collections.abc import Callable
from typing import Any

import pytest

from understudy.components.boundary import cri, podnet
from understudy.components.boundary.fake_images import Catalogue, ImageScript
from understudy.components.boundary.kubelet_api import KubeletError, OpenSession, SessionKind
from understudy.components.kubelet import pod_worker
from understudy.components.kubelet.node_status import is_ready
from understudy.components.kubelet.options import KubeletOptions
from understudy.components.machinery.resources import CONFIG_MAPS, LEASES, NODES, PODS

from .node import Object, Stage, perform, simulate


def conditions(pod: Object) -> dict[str, str]:
    return {c["type"]: c["status"] for c in pod["status"]["conditions"]}


def test_a_node_registers_ready_at_once_and_keeps_its_lease() -> None:
    async def main(stage: Stage) -> None:
        async def registered() -> bool:
            nodes = (await stage.client.list(NODES)).items
            return bool(nodes) and is_ready(nodes[0]["status"])

        await stage.until(registered, 0.2)
        node = await stage.node()
        assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.2"
        assert node["status"]["allocatable"]["pods"] == "110"
        assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"
        await stage.world.sleep(1)
        before = await stage.client.get(LEASES, "node-1", "kube-node-lease")
        await stage.world.sleep(30)
        after = await stage.client.get(LEASES, "node-1", "kube-node-lease")
        assert before["spec"]["renewTime"] < after["spec"]["renewTime"]
        assert before["spec"]["leaseDurationSeconds"] == 40
        assert (await stage.node())["metadata"]["resourceVersion"] == node["metadata"]["resourceVersion"], (
            "a status that did not change is not sent"
        )
        await stage.world.sleep(300)
        assert (await stage.node())["metadata"]["resourceVersion"] != node["metadata"]["resourceVersion"]

    simulate(main)


def test_a_node_waits_for_its_pod_addresses() -> None:
    async def main(stage: Stage) -> None:
        await stage.world.sleep(1)
        node = await stage.node()
        ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
        assert ready["status"] == "False"
        assert "cni plugin not initialized" in ready["message"]
        cidr = {"spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"]}}
        await stage.client.patch(NODES, "node-1", cidr)
        await stage.world.sleep(0.1)
        assert is_ready((await stage.node())["status"])
        await stage.create("web")
        assert (await stage.phase("web", "Running"))["status"]["podIP"] == "10.244.7.2"

    simulate(main, options=KubeletOptions())


def test_a_pod_that_was_here_before_the_network_starts_with_it() -> None:
    async def main(stage: Stage) -> None:
        await stage.world.sleep(0.5)
        await stage.create("early")
        await stage.create("host", hostNetwork=True)
        await stage.phase("host", "Running", 1)
        await stage.world.sleep(2.3)
        assert await stage.reasons("early") == ["NetworkNotReady"]
        cidr = {"spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"]}}
        await stage.client.patch(NODES, "node-1", cidr)
        await stage.phase("early", "Running", 0.2)

    simulate(main, options=KubeletOptions())


@pytest.mark.parametrize("run", [simulate, perform])
def test_a_pod_runs_answers_and_goes(run: Callable[..., None]) -> None:
    async def main(stage: Stage) -> None:
        await stage.create("web")
        pod = await stage.phase("web", "Running", 5)
        assert set(conditions(pod).values()) == {"True"}
        ip = pod["status"]["podIP"]
        assert (await stage.network.ask(podnet.HttpExchange(ip, 80))).body == b"web\n"
        assert b'"GET / HTTP/1.1" 200' in await stage.logs("web")
        assert await stage.reasons("web") == ["Pulling", "Pulled", "Created", "Started"]
        await stage.client.delete(PODS, "web", "default")
        await stage.world.sleep(0.5)
        assert not await stage.exists("web")
        assert await stage.sandboxes() == []
        assert not [a for a in stage.system.statistics() if "default_web" in a.path], "no worker is left"

    run(main)


def test_a_deleted_pod_has_its_grace_period() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("slow", {"image": "understudy.dev/fake/slow-stop-20s"})
        await stage.phase("slow", "Running")
        await stage.client.delete(PODS, "slow", "default")
        await stage.world.sleep(15)
        assert (await stage.pod("slow"))["status"]["phase"] == "Running"
        await stage.world.sleep(6)
        assert not await stage.exists("slow")
        await stage.create("deaf", {"image": "understudy.dev/fake/ignores-sigterm"})
        await stage.phase("deaf", "Running")
        began = stage.world.monotonic()
        await stage.client.delete(PODS, "deaf", "default", grace_period_seconds=5)
        await stage.until(lambda: _gone(stage, "deaf"))
        assert stage.world.monotonic() - began == pytest.approx(5, abs=0.2)

    simulate(main)


async def _gone(stage: Stage, name: str) -> bool:
    return not await stage.exists(name)


def test_a_forced_deletion_leaves_nothing_behind() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("deaf", {"image": "understudy.dev/fake/ignores-sigterm"})
        await stage.phase("deaf", "Running")
        await stage.client.delete(PODS, "deaf", "default", grace_period_seconds=0)
        await stage.create("deaf")
        await stage.phase("deaf", "Running")
        await stage.world.sleep(1)
        assert await stage.sandboxes() == ["deaf"], "the new one only"

    simulate(main)


def test_a_crashing_container_backs_off_longer_and_longer() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("crash", {"image": "understudy.dev/fake/crash"})
        status = await stage.waiting("crash", "CrashLoopBackOff")
        assert "back-off 10s restarting failed container=main" in status["state"]["waiting"]["message"]
        assert status["lastState"]["terminated"]["exitCode"] == 1
        assert await stage.logs("crash", previous=True) == b"crashing\n"
        await stage.world.sleep(600)
        status = await stage.waiting("crash", "CrashLoopBackOff")
        # 0, 10, 20, 40, 80, 160 and 300 s of waiting lie between the restarts.
        assert status["restartCount"] == 6
        assert "back-off 5m0s" in status["state"]["waiting"]["message"]
        containers = (await stage.runtime.ask(cri.ListContainers())).containers
        assert len(containers) <= 2, "dead containers do not pile up"

    simulate(main)


def test_a_finished_pod_keeps_its_log() -> None:
    async def main(stage: Stage) -> None:
        await stage.create(
            "job", {"image": "busybox", "command": ["sh", "-c", "echo hi; exit 0"]}, restartPolicy="Never"
        )
        pod = await stage.phase("job", "Succeeded")
        assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
        assert await stage.logs("job") == b"hi\n"
        stamped = await stage.logs("job", timestamps=True, limit_bytes=30)
        assert stamped.startswith(b"2026-01-01T00:00:0") and len(stamped) == 30
        await stage.create("bad", {"image": "understudy.dev/fake/exit-3"}, restartPolicy="Never")
        pod = await stage.phase("bad", "Failed")
        assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3

    simulate(main)


def test_an_image_that_cannot_be_pulled() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("gone", {"image": "understudy.dev/fake/pull-error"})
        await stage.waiting("gone", "ErrImagePull")
        status = await stage.waiting("gone", "ImagePullBackOff")
        assert status["state"]["waiting"]["message"].startswith('Back-off pulling image "understudy.dev/')
        with pytest.raises(KubeletError, match="trying and failing to pull image"):
            await stage.logs("gone")
        reasons = await stage.reasons("gone")
        assert reasons[:3] == ["Pulling", "Failed", "Failed"]
        await stage.create("bad", {"image": "Bad:image:name"})
        await stage.waiting("bad", "InvalidImageName")
        await stage.create("never", {"image": "redis", "imagePullPolicy": "Never"})
        await stage.waiting("never", "ErrImageNeverPull")

    simulate(main)


def test_missing_configuration_is_waited_for() -> None:
    async def main(stage: Stage) -> None:
        env = [
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "key"}}},
            {"name": "WHO", "value": "$(KEY) on $(NODE)"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ]
        command = ["sh", "-c", "echo $KEY-$WHO-$NODE"]
        await stage.create("job", {"image": "busybox", "command": command, "env": env}, restartPolicy="Never")
        status = await stage.waiting("job", "CreateContainerConfigError")
        assert status["state"]["waiting"]["message"] == 'configmap "settings" not found'
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings"},
            "data": {"key": "v"},
        }
        await stage.client.create(CONFIG_MAPS, config, "default")
        await stage.phase("job", "Succeeded")
        assert await stage.logs("job") == b"v-v on $(NODE)-node-1\n"

    simulate(main)


def test_probes_decide_about_readiness_and_restarts() -> None:
    async def main(stage: Stage) -> None:
        http = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}
        await stage.create("late", {"image": "understudy.dev/fake/ready-after-5s", "readinessProbe": http})
        pod = await stage.phase("late", "Running")
        assert conditions(pod)["Ready"] == "False"
        await stage.world.sleep(6)
        assert conditions(await stage.pod("late"))["Ready"] == "True"
        sick = {"image": "understudy.dev/fake/unhealthy-after-10s", "livenessProbe": http}
        await stage.create("sick", sick)
        await stage.phase("sick", "Running")
        await stage.world.sleep(14)
        status = (await stage.pod("sick"))["status"]["containerStatuses"][0]
        assert status["restartCount"] == 1
        assert "Unhealthy" in await stage.reasons("sick")
        startup = {"tcpSocket": {"port": 80}, "periodSeconds": 1, "failureThreshold": 3}
        image = "understudy.dev/fake/never-ready"
        await stage.create("stuck", {"image": image, "startupProbe": startup, "livenessProbe": http})
        await stage.waiting("stuck", "CrashLoopBackOff")

    simulate(main)


def test_a_pod_that_does_not_fit_is_refused() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("huge", {"resources": {"requests": {"cpu": "100"}}})
        pod = await stage.phase("huge", "Failed")
        assert pod["status"]["reason"] == "OutOfcpu"
        assert await stage.sandboxes() == []

    simulate(main)


def test_a_deadline_ends_a_pod() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("short", activeDeadlineSeconds=30)
        await stage.phase("short", "Running")
        await stage.world.sleep(31)
        pod = await stage.pod("short")
        assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")

    simulate(main)


def test_hooks_run_after_the_start_and_before_the_stop() -> None:
    async def main(stage: Stage) -> None:
        lifecycle = {
            "postStart": {"exec": {"command": ["sh", "-c", "touch /started"]}},
            "preStop": {"sleep": {"seconds": 7}},
        }
        await stage.create("hooked", {"image": "busybox", "command": ["sleep", "1d"], "lifecycle": lifecycle})
        pod = await stage.phase("hooked", "Running")
        container_id = pod["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
        found = await stage.runtime.ask(cri.ExecSync(container_id, ("cat", "/started")))
        assert found.exit_code == 0
        began = stage.world.monotonic()
        await stage.client.delete(PODS, "hooked", "default")
        await stage.until(lambda: _gone(stage, "hooked"))
        assert stage.world.monotonic() - began == pytest.approx(7, abs=0.2)

    simulate(main)


def test_a_restarted_kubelet_finds_its_pods_and_removes_what_is_not_its_own() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("stays")
        await stage.create("goes")
        before = await stage.phase("stays", "Running")
        await stage.phase("goes", "Running")
        await stage.system.stop(stage.kubelet)
        await stage.client.delete(PODS, "goes", "default", grace_period_seconds=0)
        assert sorted(await stage.sandboxes()) == ["goes", "stays"]
        stage.kubelet = stage.spawn_kubelet()
        await stage.world.sleep(2)
        assert await stage.sandboxes() == ["stays"]
        after = await stage.pod("stays")
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"], "nothing to say"
        assert await stage.logs("stays", tail_lines=0) == b""

    simulate(main)


def test_a_sandbox_that_is_lost_is_made_again() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("web")
        await stage.phase("web", "Running")
        listed = await stage.runtime.ask(cri.ListPodSandbox())
        await stage.runtime.ask(cri.StopPodSandbox(listed.items[0].id))
        # The container may have been restarted once in the dying sandbox: then it is in back-off.
        await stage.world.sleep(12)
        pod = await stage.pod("web")
        assert (pod["status"]["phase"], conditions(pod)["Ready"]) == ("Running", "True")
        assert pod["status"]["containerStatuses"][0]["restartCount"] in (1, 2)
        assert "SandboxChanged" in await stage.reasons("web")

    simulate(main)


def test_idle_pods_cost_nothing() -> None:
    async def main(stage: Stage) -> None:
        for number in range(20):
            await stage.create(f"web-{number}")
        for number in range(20):
            await stage.phase(f"web-{number}", "Running")
        # The first comparison of the runtime's lists makes every worker look once.
        await stage.world.sleep(400)
        heard: list[str] = []
        stage.system.observers.append(lambda delivery: heard.append(delivery.receiver))
        await stage.world.sleep(3600)
        assert "/kubelet/node" in heard, "the node itself goes on reporting"
        assert not [path for path in heard if "/default_web" in path]

    simulate(main)


def test_sessions_are_refused_clearly() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("web")
        await stage.phase("web", "Running")
        with pytest.raises(KubeletError, match="exec is not supported"):
            await stage.kubelet.ask(OpenSession(SessionKind.EXEC, "default", "web"))
        with pytest.raises(KubeletError, match='pod "nope" not found'):
            await stage.kubelet.ask(OpenSession(SessionKind.EXEC, "default", "nope"))

    simulate(main)


def test_a_slow_pull_does_not_hold_up_a_deletion() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("slow", {"image": "example.com/huge:1"})
        await stage.world.sleep(5)
        assert (await stage.pod("slow"))["status"]["phase"] == "Pending"
        await stage.client.delete(PODS, "slow", "default")
        await stage.world.sleep(1)
        assert not await stage.exists("slow")
        assert await stage.sandboxes() == []

    simulate(main, catalogue=Catalogue({"example.com/huge": ImageScript(pull_seconds=1000)}))


def test_a_runtime_that_lost_everything_gets_its_pods_again() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("web")
        await stage.create("job", {"image": "understudy.dev/fake/completes"}, restartPolicy="Never")
        before = await stage.phase("web", "Running")
        done = await stage.phase("job", "Succeeded")
        await stage.world.sleep(1)
        await stage.system.stop(stage.runtime)
        await stage.world.sleep(30)
        ready = next(c for c in (await stage.node())["status"]["conditions"] if c["type"] == "Ready")
        assert (ready["status"], ready["message"]) == ("False", "container runtime is down")
        stage.spawn_runtime()

        async def again() -> bool:
            status = (await stage.pod("web"))["status"]["containerStatuses"][0]
            return bool(status["ready"] and status["restartCount"] == 1)

        await stage.until(again)
        after = await stage.pod("web")
        assert after["status"]["startTime"] == before["status"]["startTime"]
        assert is_ready((await stage.node())["status"])
        assert (await stage.pod("job"))["status"] == done["status"], "what was done is not done again"
        await stage.client.delete(PODS, "job", "default")
        await stage.until(lambda: _gone(stage, "job"))

    simulate(main)


def test_a_pod_whose_worker_crashes_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = pod_worker.compute_actions
    crashes: list[str] = []

    def faulty(pod: Object, *arguments: Any) -> Any:
        if pod["metadata"]["name"] == "poison" and len(crashes) < 8:
            crashes.append("boom")
            raise RuntimeError("boom")
        return compute(pod, *arguments)

    monkeypatch.setattr(pod_worker, "compute_actions", faulty)

    async def main(stage: Stage) -> None:
        await stage.create("poison")
        await stage.create("web")
        await stage.phase("web", "Running")
        await stage.phase("poison", "Running", 600)
        assert len(crashes) == 8

    simulate(main)


def test_a_pod_on_the_nodes_network_has_its_address() -> None:
    async def main(stage: Stage) -> None:
        await stage.create("agent", hostNetwork=True)
        pod = await stage.phase("agent", "Running")
        assert pod["status"]["podIP"] == pod["status"]["hostIP"] == "172.18.0.2"
        assert (await stage.network.ask(podnet.HttpExchange("172.18.0.2", 80))).body == b"agent\n"
        port = {"containerPort": 80, "hostPort": 8080}
        await stage.create("mapped", {"ports": [port]})
        await stage.phase("mapped", "Running")
        assert (await stage.network.ask(podnet.HttpExchange("172.18.0.2", 8080))).body == b"mapped\n"

    simulate(main)
