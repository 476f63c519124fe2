"""A fake node runs pods: runtime, network plugin and network together, in both worlds."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from understudy.actors import Actor, ActorSystem, AskTimeout, RealWorld, Ref, SimWorld, World, handles
from understudy.components.boundary import cni, cri, dataplane, name_server, podnet
from understudy.components.boundary.fake_cni import FakeCni
from understudy.components.boundary.fake_cri import FakeCri
from understudy.components.boundary.fake_images import Catalogue, ImageScript
from understudy.components.boundary.fake_podnet import FakePodNetwork

Main = Callable[["Node"], Awaitable[Any]]


class Node:
    """One fake node and what a test does to it."""

    def __init__(self, world: World, system: ActorSystem, catalogue: Catalogue) -> None:
        self.world = world
        self.system = system
        self.network: Ref[Any] = system.spawn(FakePodNetwork, "network", host="network")
        self.plugin: Ref[Any] = system.spawn(FakeCni, "cni", host="node-1")
        self.runtime: Ref[Any] = system.spawn(
            lambda: FakeCri("node-1", "192.168.0.1", self.plugin, self.network, catalogue, "10.244.1.0/24"),
            "cri",
            host="node-1",
        )

    async def sandbox(self, name: str = "web-1") -> tuple[str, cri.PodSandboxConfig, str]:
        """(id, config, ip)"""
        config = cri.PodSandboxConfig(cri.PodSandboxMetadata(name, f"uid-{name}", "default"), hostname=name)
        reply = await self.runtime.ask(cri.RunPodSandbox(config))
        status = await self.runtime.ask(cri.GetPodSandboxStatus(reply.pod_sandbox_id))
        return reply.pod_sandbox_id, config, status.status.ips[0] if status.status.ips else ""

    async def container(
        self,
        image: str,
        *command: str,
        sandbox: tuple[str, cri.PodSandboxConfig, str] | None = None,
        port: int = 0,
    ) -> str:
        """A started container."""
        sandbox = sandbox or await self.sandbox()
        await self.runtime.ask(cri.PullImage(cri.ImageSpec(image)))
        ports = json.dumps([{"containerPort": port}] if port else [])
        config = cri.ContainerConfig(
            cri.ContainerMetadata("main"),
            cri.ImageSpec(image),
            command=command,
            annotations={"io.kubernetes.container.ports": ports},
        )
        reply = await self.runtime.ask(cri.CreateContainer(sandbox[0], config, sandbox[1]))
        await self.runtime.ask(cri.StartContainer(reply.container_id))
        return str(reply.container_id)

    async def status(self, container_id: str) -> cri.ContainerStatus:
        status: cri.ContainerStatus = (await self.runtime.ask(cri.GetContainerStatus(container_id))).status
        return status

    async def logs(self, container_id: str, **options: Any) -> list[str]:
        writer, reader = self.system.channel("logs", capacity=4)
        await self.runtime.ask(cri.StreamContainerLog(container_id, writer, **options))
        return [line.content.decode() async for line in reader]


def in_real_world(main: Main, catalogue: Catalogue = Catalogue()) -> None:  # noqa: B008
    async def run() -> None:
        async with RealWorld.open() as world:
            with trio.fail_after(10):
                async with ActorSystem.open(world) as system:
                    await main(Node(world, system, catalogue))

    trio.run(run)


def in_simulation(main: Main, catalogue: Catalogue = Catalogue()) -> None:  # noqa: B008
    async def run(world: World) -> None:
        async with ActorSystem.open(world) as system:
            await main(Node(world, system, catalogue))

    SimWorld(seed=1).run(run)


both = pytest.mark.parametrize("run", [in_real_world, in_simulation])
Run = Callable[[Main], None]


@both
def test_a_web_image_answers_with_its_pods_name_until_it_is_stopped(run: Run) -> None:
    async def main(node: Node) -> None:
        sandbox = await node.sandbox()
        assert sandbox[2] == "10.244.1.2"
        container = await node.container("nginx", sandbox=sandbox)
        ask = podnet.HttpExchange(sandbox[2], 80)
        assert (await node.network.ask(ask)).body == b"web-1\n"
        with pytest.raises(
            podnet.ConnectionRefused, match=r"dial tcp 10\.244\.1\.2:81: connect: connection refused"
        ):
            await node.network.ask(podnet.HttpExchange(sandbox[2], 81))
        await node.runtime.ask(cri.StopContainer(container, 30))
        status = await node.status(container)
        assert (status.state, status.exit_code, status.reason) == (cri.ContainerState.EXITED, 0, "Completed")
        with pytest.raises(podnet.ConnectionRefused):
            await node.network.ask(ask)
        await node.runtime.ask(cri.StopPodSandbox(sandbox[0]))
        with pytest.raises(AskTimeout):
            await node.network.ask(ask, 0.01)
        assert len(await node.logs(container)) == 1, "the access log is kept until the container is removed"
        await node.runtime.ask(cri.RemovePodSandbox(sandbox[0]))
        with pytest.raises(cri.CriError, match="code = NotFound"):
            await node.status(container)

    run(main)


@both
def test_a_command_runs_and_its_log_can_be_followed(run: Run) -> None:
    async def main(node: Node) -> None:
        container = await node.container(
            "busybox", "sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.01; done; exit 3"
        )
        assert (await node.status(container)).state is cri.ContainerState.RUNNING
        assert await node.logs(container, follow=True) == ["line 1", "line 2", "line 3"]
        status = await node.status(container)
        assert (status.state, status.exit_code, status.reason) == (cri.ContainerState.EXITED, 3, "Error")
        assert await node.logs(container, tail_lines=1) == ["line 3"]

    run(main)


@both
def test_a_stop_signal_is_obeyed_trapped_or_ignored(run: Run) -> None:
    async def main(node: Node) -> None:
        plain = await node.container("busybox", "sleep", "1000", sandbox=await node.sandbox("a"))
        await node.runtime.ask(cri.StopContainer(plain, 30))
        assert (await node.status(plain)).exit_code == 143
        trap = "trap 'echo bye; exit 7' TERM; sleep 1000"
        trapped = await node.container("busybox", "sh", "-c", trap, sandbox=await node.sandbox("b"))
        await node.runtime.ask(cri.StopContainer(trapped, 30))
        assert (await node.status(trapped)).exit_code == 7
        assert await node.logs(trapped) == ["bye"]
        deaf = await node.container("understudy.dev/fake/ignores-sigterm", sandbox=await node.sandbox("c"))
        await node.runtime.ask(cri.StopContainer(deaf, 0.02))
        assert (await node.status(deaf)).exit_code == 137

    run(main)


@both
def test_every_change_is_an_event_in_order(run: Run) -> None:
    async def main(node: Node) -> None:
        writer, reader = node.system.channel("events")
        await node.runtime.ask(cri.GetContainerEvents(writer))
        sandbox = await node.sandbox()
        container = await node.container("understudy.dev/fake/exit-3", sandbox=sandbox)
        kind = cri.ContainerEventType
        seen = [await reader.receive() for _ in range(5)]
        assert [(e.container_id == container, e.type) for e in seen] == [
            (False, kind.CREATED),
            (False, kind.STARTED),
            (True, kind.CREATED),
            (True, kind.STARTED),
            (True, kind.STOPPED),
        ]

    run(main)


@both
def test_a_slow_reader_of_events_is_told_that_it_lost_some(run: Run) -> None:
    async def main(node: Node) -> None:
        writer, reader = node.system.channel("events", capacity=2)
        await node.runtime.ask(cri.GetContainerEvents(writer))
        await node.container("nginx")
        await reader.receive()
        await reader.receive()
        with pytest.raises(cri.EventsLost):
            await reader.receive()

    run(main)


@both
def test_exec_sees_the_files_of_its_container_and_the_health_of_its_image(run: Run) -> None:
    async def main(node: Node) -> None:
        busybox = await node.container("busybox", "sh", "-c", "touch /tmp/healthy; sleep 1000")
        assert (await node.runtime.ask(cri.ExecSync(busybox, ("cat", "/tmp/healthy")))).exit_code == 0
        assert (await node.runtime.ask(cri.ExecSync(busybox, ("cat", "/tmp/no")))).exit_code == 1
        with pytest.raises(cri.CriError, match="code = DeadlineExceeded"):
            await node.runtime.ask(cri.ExecSync(busybox, ("sleep", "10"), 0.01))
        never = await node.container("understudy.dev/fake/never-ready", sandbox=await node.sandbox("n"))
        assert (await node.runtime.ask(cri.ExecSync(never, ("/bin/check",)))).exit_code == 1

    run(main)


@both
def test_images_must_be_there_and_can_fail_to_come(run: Run) -> None:
    async def main(node: Node) -> None:
        sandbox_id, sandbox, _ = await node.sandbox()
        config = cri.ContainerConfig(cri.ContainerMetadata("main"), cri.ImageSpec("redis:7"))
        with pytest.raises(cri.CriError, match="code = NotFound"):
            await node.runtime.ask(cri.CreateContainer(sandbox_id, config, sandbox))
        with pytest.raises(cri.CriError, match=r"failed to resolve reference .* not found"):
            await node.container("understudy.dev/fake/pull-error", sandbox=await node.sandbox("b"))
        spec = cri.ImageSpec("redis:7")
        assert (await node.runtime.ask(cri.GetImageStatus(spec))).image is None
        reply = await node.runtime.ask(cri.PullImage(spec))
        image = (await node.runtime.ask(cri.GetImageStatus(spec))).image
        assert image.id == reply.image_ref
        assert image.repo_digests[0].startswith("docker.io/library/redis@sha256:")
        await node.runtime.ask(cri.RemoveImage(spec))
        assert (await node.runtime.ask(cri.ListImages())).images == ()

    run(main)


@both
def test_rules_of_the_clients_node_decide_where_its_connection_goes(run: Run) -> None:
    class Rules(Actor[dataplane.Dataplane]):
        @handles(dataplane.Connect)
        def connect(self, message: dataplane.Connect) -> dataplane.Verdict:
            if message.destination_ip == "10.96.0.1":
                return dataplane.Verdict(dataplane.Action.FORWARD, "10.244.1.2", 80)
            if message.destination_ip == "10.96.0.2":
                return dataplane.Verdict(dataplane.Action.REJECT)
            action = dataplane.Action.PASS
            return dataplane.Verdict(action, message.destination_ip, message.destination_port)

    async def main(node: Node) -> None:
        rules: Ref[dataplane.Dataplane] = node.system.spawn(Rules, "rules", host="node-1")
        sandbox = await node.sandbox()
        await node.container("nginx", sandbox=sandbox)
        await node.network.ask(podnet.JoinNode("node-1", ("192.168.0.1",), rules))
        inside = podnet.HttpExchange("10.96.0.1", 8080, source_ip=sandbox[2])
        assert (await node.network.ask(inside)).body == b"web-1\n"
        assert (await node.network.ask(podnet.TcpConnect("10.96.0.1", 8080, sandbox[2]))).ip == sandbox[2]
        with pytest.raises(podnet.ConnectionRefused, match=r"10\.96\.0\.2:80"):
            await node.network.ask(podnet.TcpConnect("10.96.0.2", 80, sandbox[2]))
        with pytest.raises(AskTimeout):
            await node.network.ask(podnet.HttpExchange("10.96.0.1", 8080), 0.01)

    run(main)


def test_a_command_reaches_a_service_by_its_name() -> None:
    class Names(Actor[name_server.NameServer]):
        @handles(name_server.Query)
        def query(self, message: name_server.Query) -> name_server.Answered:
            query = DNSRecord.parse(message.query)
            answer = query.reply()
            if str(query.q.qname) == "web.default.svc.cluster.local.":
                answer.add_answer(RR(query.q.qname, QTYPE.A, rdata=A("10.244.1.2"), ttl=30))
            else:
                answer.header.rcode = RCODE.NXDOMAIN
            return name_server.Answered(answer.pack())

    async def main(node: Node) -> None:
        names: Ref[Any] = node.system.spawn(Names, "names", host="dns")
        await node.network.ask(podnet.JoinNameServer("10.96.0.10", names))
        await node.container("nginx", sandbox=await node.sandbox("web-1"))
        dns = cri.DNSConfig(("10.96.0.10",), ("default.svc.cluster.local", "svc.cluster.local"), ("ndots:5",))
        metadata = cri.PodSandboxMetadata("client", "uid-client", "default")
        config = cri.PodSandboxConfig(metadata, hostname="client", dns_config=dns)
        reply = await node.runtime.ask(cri.RunPodSandbox(config))
        client = await node.container("busybox", "sleep", "1d", sandbox=(reply.pod_sandbox_id, config, ""))

        async def run(*command: str) -> tuple[int, bytes, bytes]:
            found = await node.runtime.ask(cri.ExecSync(client, command, 30), 60)
            return found.exit_code, found.stdout, found.stderr

        assert await run("wget", "-qO-", "http://web/") == (0, b"web-1\n", b"")
        assert await run("sh", "-c", "X=$(curl -s http://web:80); echo got $X") == (0, b"got web-1\n", b"")
        assert await run("wget", "-q", "-O", "-", "http://nope") == (1, b"", b"wget: bad address 'nope'\n")
        refused = await run("curl", "-sS", "http://web:81")
        assert refused == (7, b"", b"curl: (7) Failed to connect to web port 81: Connection refused\n")
        assert await run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "web") == (0, b"200", b"")
        code, _, _ = await run("wget", "-T", "2", "-qO-", "http://10.244.1.77")
        assert code == 1, "nobody has that address"
        assert (await run("nslookup", "web"))[1] == b"Name:\tweb\nAddress: 10.244.1.2\n"
        script = "until wget -qO- http://web; do sleep 1; done; wget -q http://web; cat index.html"
        once = await node.container("busybox", "sh", "-c", script, sandbox=await _client_sandbox(node, dns))
        assert await node.logs(once, follow=True) == ["web-1", "web-1"]

    in_simulation(main)


async def _client_sandbox(node: Node, dns: cri.DNSConfig) -> tuple[str, cri.PodSandboxConfig, str]:
    metadata = cri.PodSandboxMetadata("once", "uid-once", "default")
    config = cri.PodSandboxConfig(metadata, hostname="once", dns_config=dns)
    reply = await node.runtime.ask(cri.RunPodSandbox(config))
    return reply.pod_sandbox_id, config, ""


def test_times_of_a_script_are_kept_to_the_second() -> None:
    async def main(node: Node) -> None:
        sandbox = await node.sandbox()
        before = node.world.monotonic()
        await node.container("example.com/slow:1", sandbox=sandbox, port=8080)
        assert node.world.monotonic() - before == pytest.approx(3, abs=0.1)
        ask = podnet.HttpExchange(sandbox[2], 8080)
        with pytest.raises(podnet.ConnectionRefused):
            await node.network.ask(ask)
        await node.world.sleep(5)
        assert (await node.network.ask(ask)).status == 200
        await node.world.sleep(10)
        assert (await node.network.ask(ask)).status == 503

    in_simulation(
        main,
        Catalogue({"example.com/slow": ImageScript(pull_seconds=3, listens_after=5, healthy_for=14)}),
    )


def test_addresses_run_out_and_come_back() -> None:
    async def main(node: Node) -> None:
        config = cni.NetworkConfig(subnet="10.0.0.0/29")

        def attachment(number: int) -> cni.Attachment:
            return cni.Attachment(f"s{number}", "/ns", "default", f"p{number}", f"u{number}")

        results = [await node.plugin.ask(cni.Add(attachment(n), config)) for n in range(5)]
        assert [r.ips[0].address for r in results] == [f"10.0.0.{n}/29" for n in range(2, 7)]
        with pytest.raises(cni.CniError, match="no IP addresses available"):
            await node.plugin.ask(cni.Add(attachment(9), config))
        with pytest.raises(cni.CniError, match="already has"):
            await node.plugin.ask(cni.Add(attachment(1), config))
        await node.plugin.ask(cni.Check(attachment(1), results[1]))
        await node.plugin.ask(cni.Del(attachment(1)))
        await node.plugin.ask(cni.Del(attachment(1)))
        assert (await node.plugin.ask(cni.Add(attachment(9), config))).ips[0].address == "10.0.0.3/29"

    in_simulation(main)
