"""What every part of the fake runtime works on: sandboxes, containers, and the telling of events."""

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define, field

from understudy.actors import Actor, ChannelWriter, Ref
from understudy.mailbox import ChannelClosed, ChannelFull

from . import cni, cri, podnet
from .cri import ContainerEventType, ContainerState, CriCode, CriError, PodSandboxState
from .fake_container import SIGKILL_EXIT_CODE, FakeContainer
from .fake_image_store import FakeImageStore
from .fake_images import Catalogue

_T = TypeVar("_T")


@define(eq=False)
class FakeSandbox:
    """One pod's sandbox."""

    id: str
    config: cri.PodSandboxConfig
    runtime_handler: str
    created_at: int
    state: PodSandboxState = PodSandboxState.READY
    network: cni.Result | None = None
    containers: dict[str, FakeContainer] = field(factory=dict)

    @property
    def ips(self) -> tuple[str, ...]:
        return () if self.network is None else tuple(ip.address.partition("/")[0] for ip in self.network.ips)


class FakeRuntime(Actor[Any]):
    """The state of one node's runtime, in memory."""

    def __init__(
        self,
        node: str,
        node_ip: str,
        plugin: Ref[cni.NetworkPlugin],
        network: Ref[podnet.PodNetwork],
        catalogue: Catalogue | None = None,
        pod_cidr: str = "",
    ) -> None:
        self.node = node
        self.node_ip = node_ip
        self.plugin = plugin
        self.network = network
        self.pod_cidr = pod_cidr
        self.images = FakeImageStore(catalogue or Catalogue())
        self.sandboxes: dict[str, FakeSandbox] = {}
        self.containers: dict[str, FakeContainer] = {}
        self.by_ip: dict[str, FakeSandbox] = {}
        self._names: dict[cri.PodSandboxMetadata, None] = {}
        self._subscribers: list[ChannelWriter[cri.ContainerEvent]] = []

    def _emit(self, type: ContainerEventType, sandbox: FakeSandbox, container_id: str) -> None:
        event = cri.ContainerEvent(
            container_id, sandbox.id, sandbox.config.metadata.uid, type, self._now_ns()
        )
        kept: list[ChannelWriter[cri.ContainerEvent]] = []
        for subscriber in self._subscribers:
            try:
                subscriber.try_send(event)
            except ChannelFull:
                subscriber.close(cri.EventsLost())
            except ChannelClosed:
                pass  # its reader has gone
            else:
                kept.append(subscriber)
        self._subscribers = kept

    def _now_ns(self) -> int:
        return int(self.world.now().timestamp() * 1e6) * 1000

    def _new_id(self) -> str:
        return f"{self.world.rng(f'cri {self.node}').getrandbits(256):064x}"

    def _exit(self, container: FakeContainer, exit_code: int, reason: str = "") -> None:
        """The container has ended; harmless when it had before."""
        if container.state is ContainerState.EXITED:
            return
        container.state = ContainerState.EXITED
        container.finished_at = self._now_ns()
        container.exit_code = exit_code
        container.reason = reason or ("Completed" if exit_code == 0 else "Error")
        container.log.end(container.finished_at)
        cancel, container.cancel = container.cancel, None
        container.exited.set()
        self._emit(ContainerEventType.STOPPED, self.sandboxes[container.pod_sandbox_id], container.id)
        if cancel is not None:
            cancel()

    def _remove(self, container: FakeContainer) -> None:
        """The container is gone, and its log with it."""
        self._exit(container, SIGKILL_EXIT_CODE)
        sandbox = self.sandboxes[container.pod_sandbox_id]
        if self.containers.pop(container.id, None) is not None:
            del sandbox.containers[container.id]
            self._emit(ContainerEventType.DELETED, sandbox, container.id)


def known(things: Mapping[str, _T], id: str, what: str) -> _T:
    """What has that id. Raises CriError NOT_FOUND."""
    if id not in things:
        raise CriError(CriCode.NOT_FOUND, f'an error occurred when try to find {what} "{id}": not found')
    return things[id]


def selected(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether the labels have all that the selector asks for."""
    return all(labels.get(name) == value for name, value in selector.items())
