"""What the API server itself sets in objects of particular kinds when they are written.

Functions of two shapes, which `strategy` puts into its table: on create `(obj, writer)`, on update
`(new, old, writer)`; each changes its first argument in place.
"""

from collections.abc import Callable
from typing import Any

from attrs import frozen

from understudy.components.machinery.defaults import core
from understudy.components.machinery.defaults.core import NAMESPACE_LABEL
from understudy.components.machinery.quality_of_service import quality_of_service
from understudy.components.machinery.service_fields import drop_type_dependent_fields

Object = dict[str, Any]
Path = tuple[str, ...]


@frozen
class Writer:
    """Who writes, and when: what some kinds record in the object."""

    now: str = ""
    """RFC 3339 with seconds, e.g. `2026-01-01T00:00:00Z`."""
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


NOBODY = Writer()

OnCreate = Callable[[Object, Writer], None]
OnUpdate = Callable[[Object, Object, Writer], None]

_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_JOB_LABELS = (
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
)
_DECISIONS = ("Approved", "Denied")


def at(obj: Object, path: Path) -> Any:
    """The value at the path, None when there is none."""
    value: Any = obj
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def keep(new: Object, old: Object, path: Path) -> None:
    """Set the value at the path to what it was, or remove it when it was not there."""
    for name in path[:-1]:
        new = new.setdefault(name, {})
        old = old.get(name, {})
    if path[-1] in old:
        new[path[-1]] = old[path[-1]]
    else:
        new.pop(path[-1], None)


def keep_spec(new: Object, old: Object, writer: Writer) -> None:
    """The spec cannot be changed at all."""
    keep(new, old, ("spec",))


def create_pod(pod: Object, writer: Writer) -> None:
    """A pod waits to be scheduled; its quality of service is decided now and for good."""
    spec = pod["spec"]
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    pod["status"] = {"phase": "Pending", "qosClass": quality_of_service(spec)}
    if spec.get("schedulingGates"):
        pod["status"]["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": None,
                "lastTransitionTime": writer.now,
            }
        ]
    _select_own_labels(pod)


def _select_own_labels(pod: Object) -> None:
    """Label keys to match in affinity terms become requirements with the pod's own values."""
    labels = pod["metadata"].get("labels", {})
    affinity = pod["spec"].get("affinity", {})
    terms: list[Object] = []
    for name in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(name, {})
        terms += rules.get("requiredDuringSchedulingIgnoredDuringExecution", ())
        terms += [
            item["podAffinityTerm"]
            for item in rules.get("preferredDuringSchedulingIgnoredDuringExecution", ())
        ]
    for term in terms:
        if "labelSelector" not in term:
            continue
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
            for key in term.get(field, ()):
                if key in labels:
                    term["labelSelector"].setdefault("matchExpressions", []).append(
                        {"key": key, "operator": operator, "values": [labels[key]]}
                    )


def update_pod_status(new: Object, old: Object, writer: Writer) -> None:
    """The quality of service stays what it was."""
    quality = old.get("status", {}).get("qosClass")
    if quality:
        new["status"]["qosClass"] = quality


def update_ephemeral_containers(new: Object, old: Object, writer: Writer) -> None:
    """Of the pod only the ephemeral containers change."""
    containers = new["spec"].get("ephemeralContainers")
    new["spec"] = dict(old["spec"])
    keep(new, old, ("status",))
    if containers:
        new["spec"]["ephemeralContainers"] = containers
    else:
        new["spec"].pop("ephemeralContainers", None)


def resize_pod(new: Object, old: Object, writer: Writer) -> None:
    """Of the pod only the resources of its containers, and their resize policies, change."""
    wanted = new["spec"]
    new["spec"] = dict(old["spec"])
    for group in ("containers", "initContainers"):
        if group not in old["spec"]:
            continue
        named = {container["name"]: container for container in wanted.get(group) or ()}
        new["spec"][group] = [
            _resized(container, named[container["name"]]) if container["name"] in named else container
            for container in old["spec"][group]
        ]
        if len(named) != len(old["spec"][group]):
            new["spec"][group] = wanted.get(group)
    if "resources" in wanted:
        new["spec"]["resources"] = wanted["resources"]
    metadata = dict(old["metadata"])
    metadata["managedFields"] = new["metadata"].get("managedFields", [])
    metadata["resourceVersion"] = new["metadata"].get("resourceVersion", "")
    new["metadata"] = {name: value for name, value in metadata.items() if value not in ([], "")}
    keep(new, old, ("status",))


def _resized(container: Object, wanted: Object) -> Object:
    resized = dict(container)
    for name in ("resources", "resizePolicy"):
        if name in wanted:
            resized[name] = wanted[name]
        else:
            resized.pop(name, None)
    return resized


def create_namespace(namespace: Object, writer: Writer) -> None:
    """A namespace is active and is held by the namespace controller's finalizer."""
    core.label_namespace(namespace)
    namespace["status"] = {"phase": "Active"}
    finalizers = namespace["spec"].setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")


def label_namespace(new: Object, old: Object, writer: Writer) -> None:
    """The label that repeats the name cannot be taken away."""
    new["metadata"].setdefault("labels", {})[NAMESPACE_LABEL] = new["metadata"]["name"]


def update_namespace(new: Object, old: Object, writer: Writer) -> None:
    """Finalizers of the spec are written through `finalize` only."""
    label_namespace(new, old, writer)
    keep(new, old, ("spec", "finalizers"))


def finalize_namespace(new: Object, old: Object, writer: Writer) -> None:
    """Only the spec's finalizers change."""
    label_namespace(new, old, writer)
    keep(new, old, ("status",))


def update_node(new: Object, old: Object, writer: Writer) -> None:
    """A node's status is its own business (it may come with the node's creation)."""
    keep(new, old, ("status",))


def create_service_account(account: Object, writer: Writer) -> None:
    """References to secrets are names only."""
    if "secrets" in account:
        account["secrets"] = [{"name": item["name"]} for item in account["secrets"] if item.get("name")]


def update_service_account(new: Object, old: Object, writer: Writer) -> None:
    """References to secrets are names only."""
    create_service_account(new, writer)


def update_service(new: Object, old: Object, writer: Writer) -> None:
    """Fields that a former type of the service needed go, unless the caller touched them."""
    drop_type_dependent_fields(new, old)


def create_persistent_volume(volume: Object, writer: Writer) -> None:
    """A volume is pending from now on."""
    volume["status"] = {"phase": "Pending", "lastPhaseTransitionTime": writer.now}


def update_persistent_volume_status(new: Object, old: Object, writer: Writer) -> None:
    """When the phase changed, the time of the change is kept, or now."""
    status, before = new["status"], old.get("status", {})
    changed = status.get("phase") != before.get("phase")
    if changed and status.get("lastPhaseTransitionTime") == before.get("lastPhaseTransitionTime"):
        status["lastPhaseTransitionTime"] = writer.now


def create_claim(claim: Object, writer: Writer) -> None:
    """A claim is pending; its two ways to name a data source agree."""
    claim["status"] = {"phase": "Pending"}
    spec = claim["spec"]
    source = spec.get("dataSource")
    if source is not None and not _is_claim_or_snapshot(source):
        del spec["dataSource"]
        source = None
    reference = spec.get("dataSourceRef")
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = {name: value for name, value in reference.items() if name != "namespace"}


def _is_claim_or_snapshot(source: Object) -> bool:
    group, kind = source.get("apiGroup") or "", source["kind"]
    return (group, kind) in (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))


def create_daemon_set(daemon_set: Object, writer: Writer) -> None:
    """The generation of the template lives on in an annotation."""
    annotations = daemon_set["metadata"].setdefault("annotations", {})
    if int(annotations.get(_TEMPLATE_GENERATION, "0")) < 1:
        annotations[_TEMPLATE_GENERATION] = "1"


def update_daemon_set(new: Object, old: Object, writer: Writer) -> None:
    """A changed template is a new generation of the template."""
    generation = int(old["metadata"].get("annotations", {}).get(_TEMPLATE_GENERATION, "0"))
    if new["spec"]["template"] != old["spec"]["template"]:
        generation += 1
    if generation:
        new["metadata"].setdefault("annotations", {})[_TEMPLATE_GENERATION] = str(generation)


def create_job(job: Object, writer: Writer) -> None:
    """Unless the caller manages the selector, the job's pods are selected by the job's uid."""
    spec = job["spec"]
    if spec.get("manualSelector"):
        return
    uid, name = job["metadata"].get("uid", ""), job["metadata"].get("name", "")
    labels = spec["template"]["metadata"].setdefault("labels", {})
    for label, value in zip(_JOB_LABELS, (uid, name, uid, name), strict=True):
        labels.setdefault(label, value)
    spec.setdefault("selector", {}).setdefault("matchLabels", {}).setdefault(_JOB_LABELS[0], uid)
    if not job["metadata"].get("labels"):
        job["metadata"]["labels"] = dict(labels)


def create_signing_request(request: Object, writer: Writer) -> None:
    """The request says who asked."""
    spec = request["spec"]
    for name in ("username", "uid", "groups", "extra"):
        spec.pop(name, None)
    if writer.username:
        spec["username"] = writer.username
    if writer.uid:
        spec["uid"] = writer.uid
    if writer.groups:
        spec["groups"] = list(writer.groups)
    if writer.extra:
        spec["extra"] = {name: list(values) for name, values in writer.extra}


def approve_signing_request(new: Object, old: Object, writer: Writer) -> None:
    """Only conditions change, and only decisions are new here."""
    conditions = new.get("status", {}).get("conditions", [])
    keep(new, old, ("spec",))
    new["status"] = {n: v for n, v in old.get("status", {}).items() if n != "conditions"}
    if conditions:
        new["status"]["conditions"] = conditions
    _stamp_conditions(new, old, writer)


def update_signing_request_status(new: Object, old: Object, writer: Writer) -> None:
    """Decisions are made through `approval`: those already made stay, new ones do not come."""
    status = new["status"]
    decided = [c for c in old.get("status", {}).get("conditions", ()) if c["type"] in _DECISIONS]
    other = [c for c in status.get("conditions", ()) if c["type"] not in _DECISIONS]
    if decided or other:
        status["conditions"] = decided + other
    else:
        status.pop("conditions", None)
    _stamp_conditions(new, old, writer)


def _stamp_conditions(new: Object, old: Object, writer: Writer) -> None:
    before = {c["type"]: c for c in old.get("status", {}).get("conditions", ())}
    for condition in new["status"].get("conditions", ()):
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = writer.now
        if not condition.get("lastTransitionTime"):
            same = before.get(condition["type"])
            kept = same is not None and same["status"] == condition["status"]
            condition["lastTransitionTime"] = (
                same["lastTransitionTime"] if same is not None and kept else writer.now
            )


def store_versions(definition: Object, writer: Writer) -> None:
    """The status says which versions objects are, or were, stored in."""
    for version in definition["spec"]["versions"] or ():
        if version["storage"]:
            stored = definition["status"].get("storedVersions") or []
            if version["name"] not in stored:
                definition["status"] = {**definition["status"], "storedVersions": [*stored, version["name"]]}


def store_versions_again(new: Object, old: Object, writer: Writer) -> None:
    """A new storage version is added to those of the status."""
    store_versions(new, writer)


def create_custom_plain(obj: Object, writer: Writer) -> None:
    """A custom object is in its first generation."""
    obj["metadata"]["generation"] = 1


def create_custom(obj: Object, writer: Writer) -> None:
    """A custom object is in its first generation, and its status is written later."""
    obj["metadata"]["generation"] = 1
    obj.pop("status", None)


def _content(obj: Object, *without: str) -> Object:
    return {name: value for name, value in obj.items() if name not in without}


def update_custom_plain(new: Object, old: Object, writer: Writer) -> None:
    """Any change outside metadata is a new generation."""
    if _content(new, "metadata") != _content(old, "metadata"):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def update_custom(new: Object, old: Object, writer: Writer) -> None:
    """The status stays; any other change outside metadata is a new generation."""
    keep(new, old, ("status",))
    if _content(new, "metadata", "status") != _content(old, "metadata", "status"):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def update_custom_status(new: Object, old: Object, writer: Writer) -> None:
    """Of a custom object only the status and the managed fields change."""
    status = new.get("status")
    managed = new["metadata"].get("managedFields")
    version = new["metadata"].get("resourceVersion")
    for name in list(new):
        if name not in ("apiVersion", "kind"):
            del new[name]
    new.update({name: value for name, value in old.items() if name not in ("apiVersion", "kind", "status")})
    new["metadata"] = dict(old["metadata"])
    if managed is not None:
        new["metadata"]["managedFields"] = managed
    if version is not None:
        new["metadata"]["resourceVersion"] = version
    if status is not None:
        new["status"] = status
