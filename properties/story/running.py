"""Run a manifest on a cluster, until its effects have settled, and record every message.

The objects are created in the order of the manifest, as `kubectl create -f` would. Settled means: every pod
that came of them runs and is ready, is done, or fails for a reason that it states; every selector of a
Service that matches ready pods has them as endpoints; and then nothing changes for a while.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import define, field, frozen
from dnslib import DNSRecord

from understudy.actors import AskTimeout
from understudy.components.boundary.name_server import Query
from understudy.components.boundary.podnet import TcpConnect
from understudy.components.client import Client
from understudy.components.cluster import Cluster
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import (
    ENDPOINT_SLICES,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    Resource,
    for_kind,
)
from understudy.components.scheduler.explanation import Explain
from understudy.mailbox import Refusal

QUIET_SECONDS = 1.5
"""Nothing has changed for so long: kube-proxy's --iptables-min-sync-period (1 s) has passed once more."""
POLL_SECONDS = 0.1
ACCOUNT_SECONDS = 5.0
"""How long a new namespace may take to get its default service account."""
TRY_SECONDS = 2.0
"""How long a connection may take that is tried at the end."""
FAILED_REASONS = frozenset(
    [
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    ]
)
"""Why a container waits that will not run by itself soon."""


class ManifestError(Exception):
    """A manifest that cannot be run: malformed, or of a kind that there is not."""


class Refused(Exception):
    """The API server refused an object of the manifest."""

    def __init__(self, what: str, error: ApiError) -> None:
        super().__init__(f"{what}: {error.message}")
        self.what = what
        self.error = error


@frozen
class Document:
    """One object of a manifest."""

    resource: Resource
    namespace: str
    body: Object

    @property
    def name(self) -> str:
        """As kubectl calls it: `pod/web`."""
        metadata = self.body.get("metadata") or {}
        return f"{self.resource.singular}/{metadata.get('name') or metadata.get('generateName', '')}"


@define
class Outcome:
    """How a run ended."""

    settled: bool
    """False: it was still changing when the time was over."""
    began: float = 0.0
    """Monotonic time of the first request."""
    created: list[Object] = field(factory=list)
    """The objects of the manifest, as the API server answered them."""


def documents(objects: Sequence[Any], namespace: str = "default") -> list[Document]:
    """Objects of a manifest, ready to be sent; lists are taken apart.

    Raises:
        ManifestError: something is no object, or of a kind that is not served.
    """
    found: list[Document] = []
    for obj in objects:
        if not isinstance(obj, dict):
            raise ManifestError(f"an object was expected, not {type(obj).__name__} {str(obj)[:40]!r}")
        kind, version = obj.get("kind"), obj.get("apiVersion")
        for key, value in (("apiVersion", version), ("kind", kind)):
            if not isinstance(value, str) or not value:
                raise ManifestError(f"an object without {key}")
        assert isinstance(kind, str) and isinstance(version, str)
        if kind == "List" and version == "v1":
            items = obj.get("items") or []
            if not isinstance(items, list):
                raise ManifestError("items of a List are not a list")
            found += documents(items, namespace)
            continue
        resource = for_kind(version, kind)
        if resource is None or "create" not in resource.verbs:
            raise ManifestError(f'no matches for kind "{kind}" in version "{version}"')
        metadata = obj.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise ManifestError(f"metadata of {kind} is not an object")
        own = str(metadata.get("namespace") or namespace)
        found.append(Document(resource, own if resource.namespaced else "", obj))
    return found


async def run_manifest(cluster: Cluster, manifest: Sequence[Document], timeout_seconds: float) -> Outcome:
    """Create the objects and wait until everything about them has settled; then try the Services.

    Raises:
        Refused: the API server refused an object; those before it are created.
    """
    client = cluster.client(user_agent="understudy-trace")
    await _quiet_start(cluster, client, manifest)
    outcome = Outcome(False, cluster.world.monotonic())
    for document in manifest:
        if any(obj["kind"] == "Namespace" for obj in outcome.created) and document.namespace:
            await _account(cluster, client, document.namespace)
        try:
            created = await client.create(document.resource, document.body, document.namespace)
        except ApiError as error:
            raise Refused(document.name, error) from error
        outcome.created.append(created)
    outcome.settled = await _settled(cluster, client, manifest, timeout_seconds)
    await _ask_scheduler(cluster, client, manifest)
    for created in outcome.created:
        if created["kind"] == "Service":
            await _try_service(cluster, client, created)
    return outcome


async def _quiet_start(cluster: Cluster, client: Client, manifest: Sequence[Document]) -> None:
    """Wait until the namespaces that are there already have what every pod needs."""
    there = {obj["metadata"]["name"] for obj in (await client.list(NAMESPACES)).items}
    for namespace in sorted({document.namespace for document in manifest} & there):
        await _account(cluster, client, namespace)


async def _account(cluster: Cluster, client: Client, namespace: str) -> None:
    """Wait for the account that every pod of a namespace needs; if it does not come, the refusal says so."""
    with cluster.world.limit(ACCOUNT_SECONDS):
        while True:
            accounts = await client.list(SERVICE_ACCOUNTS, namespace)
            if any(account["metadata"]["name"] == "default" for account in accounts.items):
                return
            await cluster.world.sleep(POLL_SECONDS, "service account")


async def _settled(
    cluster: Cluster, client: Client, manifest: Sequence[Document], timeout_seconds: float
) -> bool:
    world = cluster.world
    namespaces = sorted({document.namespace for document in manifest if document.namespace})
    namespaces += sorted(
        str(document.body["metadata"]["name"]) for document in manifest if document.resource == NAMESPACES
    )
    resources = {document.resource: None for document in manifest} | {PODS: None, ENDPOINT_SLICES: None}
    began = changed = world.monotonic()
    last: list[Object] = []
    while world.monotonic() - began < timeout_seconds:
        now: list[Object] = []
        for resource in (each for each in resources if "list" in each.verbs):
            for namespace in namespaces if resource.namespaced else ("",):
                now += (await client.list(resource, namespace)).items
        if _versions(now) != _versions(last):
            last, changed = now, world.monotonic()
        elif world.monotonic() - changed >= QUIET_SECONDS and _at_rest(now):
            return True
        await world.sleep(POLL_SECONDS, "trace settles")
    return False


def _versions(objects: Sequence[Object]) -> list[str]:
    return [f"{obj['metadata']['uid']} {obj['metadata']['resourceVersion']}" for obj in objects]


def _at_rest(objects: Sequence[Object]) -> bool:
    pods = [obj for obj in objects if obj["kind"] == "Pod"]
    slices = [obj for obj in objects if obj["kind"] == "EndpointSlice"]
    services = [obj for obj in objects if obj["kind"] == "Service"]
    owned = {owner["uid"] for obj in objects for owner in obj["metadata"].get("ownerReferences") or ()}
    return (
        all(_decided(pod) for pod in pods)
        and all(_worked_off(obj, owned) for obj in objects)
        and all(_has_endpoints(service, pods, slices) for service in services)
    )


def _decided(pod: Object) -> bool:
    """Whether nothing more is to be expected of a pod soon."""
    status = pod.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    if status.get("phase") in ("Succeeded", "Failed"):
        return True
    if conditions.get("PodScheduled", {}).get("reason") == "Unschedulable":
        return True
    states = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    if any((state.get("state", {}).get("waiting") or {}).get("reason") in FAILED_REASONS for state in states):
        return True
    running = [
        state for state in status.get("containerStatuses") or () if "running" in state.get("state", {})
    ]
    # Running without being ready can last for ever: a probe that fails. Then the quiet alone decides.
    return bool(running) and status.get("phase") == "Running"


def _worked_off(obj: Object, owned: set[str]) -> bool:
    """Whether the controller of a workload has seen it."""
    if obj["kind"] not in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"):
        return True
    status = obj.get("status") or {}
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return False
    wanted = obj.get("spec", {}).get("replicas", 1)
    has = status.get("replicas", status.get("currentNumberScheduled", 0))
    return bool(has == wanted or obj["kind"] == "DaemonSet" or status.get("conditions"))


def _has_endpoints(service: Object, pods: Sequence[Object], slices: Sequence[Object]) -> bool:
    selector = service.get("spec", {}).get("selector")
    if not selector:
        return True
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    ready = {
        pod["metadata"]["uid"]
        for pod in pods
        if pod["metadata"]["namespace"] == namespace
        and selector.items() <= (pod["metadata"].get("labels") or {}).items()
        and any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in (pod.get("status") or {}).get("conditions") or ()
        )
    }
    endpoints = {
        (endpoint.get("targetRef") or {}).get("uid")
        for each in slices
        if (each["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name
        for endpoint in each.get("endpoints") or ()
    }
    return ready <= endpoints


async def _ask_scheduler(cluster: Cluster, client: Client, manifest: Sequence[Document]) -> None:
    """Have the scheduler explain its decisions: the answers become part of the record."""
    for namespace in sorted({document.namespace for document in manifest if document.namespace}):
        for pod in (await client.list(PODS, namespace)).items:
            await cluster.system.ref("/kube-scheduler").ask(Explain(f"{namespace}/{pod['metadata']['name']}"))


async def _try_service(cluster: Cluster, client: Client, service: Object) -> None:
    """Look a Service's name up, and connect to it from a pod, if there are an address and a pod."""
    metadata, spec = service["metadata"], service["spec"]
    name, namespace = metadata["name"], metadata["namespace"]
    domain = cluster.options.dns.cluster_domain
    question = DNSRecord.question(f"{name}.{namespace}.svc.{domain}")
    question.header.id = 1
    await cluster.system.ref("/coredns").ask(Query(bytes(question.pack())))
    ip = spec.get("clusterIP")
    ports = [port["port"] for port in spec.get("ports") or () if port.get("protocol", "TCP") == "TCP"]
    if not ip or ip == "None" or not ports:
        return
    for pod in (await client.list(PODS, namespace)).items:
        source = (pod.get("status") or {}).get("podIP")
        if source:
            # If it fails, the record has the refusal, or the silence.
            with suppress(Refusal, AskTimeout):
                await cluster.system.ref("/network").ask(TcpConnect(ip, ports[0], source), TRY_SECONDS)
            return
