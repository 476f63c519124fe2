"""PodSecurity: a namespace's labels say which Pod Security Standard its pods must keep, or be warned about.

Pods are refused at the `enforce` level; at the `warn` level the caller is warned, for workloads too. There is
no audit log here, so the `audit` level is only checked for being a level. Checks are of the latest version;
a pinned one is shown but does not change them. Source: Kubernetes documentation, "Pod Security Admission".
"""

import re

from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.cacher import Interest
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import FieldError, invalid
from understudy.components.machinery.resources import NAMESPACES, PODS

from .plugin import AdmissionPlugin, pod_template_spec, refusal
from .pod_security_checks import LEVELS, Level, containers, explain, violations

PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
EXISTING_PODS_MAX = 3000
"""As many pods of a namespace are looked at when its level is raised."""

_VERSION = re.compile(r"latest|v1\.\d+")
_WORKLOADS = frozenset(
    (
        "CronJob",
        "DaemonSet",
        "Deployment",
        "Job",
        "PodTemplate",
        "ReplicaSet",
        "ReplicationController",
        "StatefulSet",
    )
)


class PodSecurity(AdmissionPlugin):
    """Holds pods to their namespace's standard."""

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        if attributes.operation not in ("CREATE", "UPDATE") or attributes.obj is None:
            return
        if attributes.resource is PODS:
            if _is_significant(attributes):
                self._check_pod(attributes, registry)
        elif attributes.resource is NAMESPACES:
            if not attributes.subresource:
                self._check_namespace(attributes, registry)
        elif attributes.obj["kind"] in _WORKLOADS and not attributes.subresource:
            self._warn_about_template(attributes, registry)

    def _check_pod(self, attributes: Attributes, registry: Registry) -> None:
        labels = _labels(attributes.namespace, registry)
        pod = attributes.obj
        assert pod is not None
        enforced = _policy(labels, "enforce")
        found = violations(enforced[0], pod["metadata"], pod["spec"])
        if found:
            raise refusal(attributes, f'violates PodSecurity "{":".join(enforced)}": {explain(found)}')
        self._warn(attributes, labels, pod["metadata"], pod["spec"])

    def _warn_about_template(self, attributes: Attributes, registry: Registry) -> None:
        spec = pod_template_spec(attributes)
        if spec is not None:
            self._warn(attributes, _labels(attributes.namespace, registry), {}, spec)

    def _warn(self, attributes: Attributes, labels: Object, metadata: Object, spec: Object) -> None:
        # Who sets only what is enforced is warned about workloads whose pods will not come to be.
        policy = _policy(labels, "warn" if PREFIX + "warn" in labels else "enforce")
        found = violations(policy[0], metadata, spec)
        if found:
            attributes.warnings.append(f'would violate PodSecurity "{":".join(policy)}": {explain(found)}')

    def _check_namespace(self, attributes: Attributes, registry: Registry) -> None:
        new, old = attributes.obj, attributes.old
        assert new is not None
        labels = new["metadata"].get("labels") or {}
        before = ((old or {}).get("metadata") or {}).get("labels") or {}
        findings = _label_problems(labels)
        if findings and (old is None or findings != _label_problems(before)):
            raise invalid("", "Namespace", attributes.name, findings)
        policy, had = _policy(labels, "enforce"), _policy(before, "enforce")
        if attributes.operation != "UPDATE" or LEVELS.index(policy[0]) <= LEVELS.index(had[0]):
            return
        by_violation: dict[str, list[str]] = {}
        pods = registry.cache(PODS).list(Interest(namespace=attributes.name))
        for entry in pods[:EXISTING_PODS_MAX]:
            pod = entry.parse()
            found = violations(policy[0], pod["metadata"], pod["spec"])
            if found:
                what = ", ".join(title for title, _ in found)
                by_violation.setdefault(what, []).append(entry.name)
        if by_violation:
            attributes.warnings.append(
                f'existing pods in namespace "{attributes.name}" violate the new PodSecurity enforce level'
                f' "{":".join(policy)}"'
            )
        for what, names in sorted(by_violation.items(), key=lambda item: item[1][0]):
            others = len(names) - 1
            more = f" (and {others} other pod{'s' if others > 1 else ''})" if others else ""
            attributes.warnings.append(f"{names[0]}{more}: {what}")


def _labels(namespace: str, registry: Registry) -> Object:
    entry = registry.cache(NAMESPACES).get("", namespace)
    return entry.labels if entry is not None else {}


def _policy(labels: Object, mode: str) -> tuple[Level, str]:
    """Level and version of a mode. What is no level is the strictest: a typing mistake opens no door."""
    given = labels.get(PREFIX + mode, "privileged")
    level: Level = next((level for level in LEVELS if level == given), "restricted")
    version: str = labels.get(f"{PREFIX}{mode}-version", "latest")
    return level, version if _VERSION.fullmatch(version) else "latest"


def _label_problems(labels: Object) -> list[FieldError]:
    findings = []
    for mode in MODES:
        level, version = labels.get(PREFIX + mode), labels.get(f"{PREFIX}{mode}-version")
        if level is not None and level not in LEVELS:
            findings.append(
                FieldError(
                    "FieldValueInvalid",
                    f"metadata.labels[{PREFIX}{mode}]",
                    level,
                    "must be one of privileged, baseline, restricted",
                )
            )
        if version is not None and not _VERSION.fullmatch(version):
            findings.append(
                FieldError(
                    "FieldValueInvalid",
                    f"metadata.labels[{PREFIX}{mode}-version]",
                    version,
                    'must be "latest" or "v1.x"',
                )
            )
    return findings


def _is_significant(attributes: Attributes) -> bool:
    """Whether the write can make a pod violate a standard that it kept before."""
    if attributes.operation == "CREATE":
        return not attributes.subresource
    if attributes.subresource not in ("", "ephemeralcontainers", "resize"):
        return False
    assert attributes.obj is not None and attributes.old is not None
    before = {container["name"]: container for container in containers(attributes.old["spec"])}
    after = {container["name"]: container for container in containers(attributes.obj["spec"])}
    if len(before) != len(after):
        return True
    return any(name not in before or before[name].get("image") != c.get("image") for name, c in after.items())
