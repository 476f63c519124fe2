"""The controller manager: a supervisor with one child actor a controller, on shared informers."""

from collections.abc import Callable

from understudy.actors import Actor
from understudy.components.client import Client, Informers
from understudy.components.controllers.controller import Controller, ControllerContext, Controlling
from understudy.components.controllers.daemonsets.controller import DaemonSetController
from understudy.components.controllers.deployment.controller import DeploymentController
from understudy.components.controllers.endpoints.endpoints_controller import EndpointsController
from understudy.components.controllers.endpoints.mirroring_controller import (
    EndpointSliceMirroringController,
)
from understudy.components.controllers.endpoints.slice_controller import EndpointSliceController
from understudy.components.controllers.garbage.controller import GarbageCollector
from understudy.components.controllers.jobs.controller import JobController
from understudy.components.controllers.jobs.ttl_controller import TtlAfterFinishedController
from understudy.components.controllers.namespaces.controller import NamespaceController
from understudy.components.controllers.nodes.eviction_controller import TaintEvictionController
from understudy.components.controllers.nodes.ipam_controller import NodeIpamController
from understudy.components.controllers.nodes.lifecycle_controller import NodeLifecycleController
from understudy.components.controllers.nodes.pod_gc_controller import PodGarbageCollector
from understudy.components.controllers.options import ControllerManagerOptions
from understudy.components.controllers.replicaset.controller import ReplicaSetController
from understudy.components.controllers.serviceaccounts.accounts_controller import ServiceAccountsController
from understudy.components.controllers.serviceaccounts.root_ca_controller import RootCaPublisher
from understudy.components.controllers.statefulsets.controller import StatefulSetController

CONTROLLERS: tuple[type[Controller], ...] = (
    ServiceAccountsController,
    RootCaPublisher,
    NodeIpamController,
    NodeLifecycleController,
    DeploymentController,
    ReplicaSetController,
    StatefulSetController,
    DaemonSetController,
    JobController,
    EndpointSliceController,
    EndpointsController,
    EndpointSliceMirroringController,
    NamespaceController,
    TaintEvictionController,
    TtlAfterFinishedController,
    PodGarbageCollector,
    GarbageCollector,
)
"""In the order in which they start: what every pod needs comes first."""


class ControllerManager(Actor[Controlling]):
    """Runs the controllers that the options enable.

    All informers are this actor's tasks: a controller that crashes restarts against a warm cache, and a
    manager that crashes starts with empty ones.
    """

    def __init__(self, client: Client, options: ControllerManagerOptions | None = None) -> None:
        self.client = client
        self.options = options or ControllerManagerOptions()

    async def on_start(self) -> None:
        informers = Informers(self.client)
        informers.start(self.context)  # type: ignore[arg-type]
        shared = ControllerContext(self.client, informers, self.options)
        for controller in CONTROLLERS:
            if _wanted(controller, self.options):
                self.context.spawn(_factory(controller, shared), controller.name)


def _factory(controller: type[Controller], shared: ControllerContext) -> Callable[[], Controller]:
    return lambda: controller(shared)


def _wanted(controller: type[Controller], options: ControllerManagerOptions) -> bool:
    switches = {
        GarbageCollector: options.enable_garbage_collector,
        NodeIpamController: options.allocate_node_cidrs,
        RootCaPublisher: bool(options.root_ca),
    }
    return options.enabled(controller.name) and switches.get(controller, True)
