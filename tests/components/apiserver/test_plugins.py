"""What the default admission plugins promise, beyond what the recordings show."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.apiserver.admission import Admission, Attributes
from understudy.components.apiserver.context import UserInfo
from understudy.components.apiserver.plugins import default_plugins
from understudy.components.apiserver.plugins.certificates import CertificateApproval
from understudy.components.apiserver.plugins.ingress_class import DefaultIngressClass
from understudy.components.apiserver.plugins.limit_ranger import LimitRanger
from understudy.components.apiserver.plugins.namespace_lifecycle import NamespaceLifecycle
from understudy.components.apiserver.plugins.node_restriction import NodeRestriction
from understudy.components.apiserver.plugins.nodes import DefaultTolerationSeconds, TaintNodesByCondition
from understudy.components.apiserver.plugins.pod_security import PodSecurity
from understudy.components.apiserver.plugins.pod_security_checks import violations
from understudy.components.apiserver.plugins.priority import Priority
from understudy.components.apiserver.plugins.resource_quota import ResourceQuota
from understudy.components.apiserver.plugins.role_escalation import RoleEscalation
from understudy.components.apiserver.plugins.runtime_class import RuntimeClass
from understudy.components.apiserver.plugins.service_account import ServiceAccount
from understudy.components.apiserver.plugins.volumes import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.pod_resources import pod_amounts
from understudy.components.machinery.quantity import parse
from understudy.components.machinery.resources import NAMESPACES, PODS, RESOURCE_QUOTAS

Perform = Callable[[Callable[[Any], Any]], Any]
Object = dict[str, Any]


def of(kind: str, name: str, api_version: str = "v1", namespace: str = "ns", **fields: Any) -> Object:
    metadata: Object = {"name": name, **({"namespace": namespace} if namespace else {})}
    metadata.update(fields.pop("metadata", {}))
    return {"kind": kind, "apiVersion": api_version, "metadata": metadata, **fields}


def pod(name: str = "p", *containers: Object, **spec: Any) -> Object:
    return of("Pod", name, spec={"containers": list(containers) or [{"name": "c", "image": "i"}], **spec})


def namespace(name: str = "ns", phase: str = "Active", **labels: str) -> Object:
    metadata = {"labels": {key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()}}
    return of("Namespace", name, namespace="", metadata=metadata, status={"phase": phase})


async def refused(writing: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await writing
    return caught.value


# -- namespaces


def test_nothing_is_created_in_a_namespace_that_is_missing_or_going(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin = NamespaceLifecycle(stage.world)
        assert (await refused(stage.write(plugin, pod()))).code == 404
        await stage.store(namespace(phase="Terminating"))
        error = await refused(stage.write(plugin, pod()))
        assert error.code == 403 and error.details is not None
        assert error.details["causes"][0]["reason"] == "NamespaceTerminating"
        await stage.write(plugin, pod(), pod())
        await stage.write(plugin, None, pod())

    perform(main)


def test_a_namespace_that_was_just_created_or_deleted_is_looked_up_in_the_store(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin = NamespaceLifecycle(stage.world)
        created = namespace()
        kept = await stage.registry.create(NAMESPACES, created)
        await stage.write(plugin, pod())
        await stage.registry.fresh()
        await stage.write(plugin, None, created)
        await stage.registry.replace(kept, {**created, "status": {"phase": "Terminating"}})
        assert (await refused(stage.write(plugin, pod()))).code == 403

    perform(main)


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_some_namespaces_stay(perform: Perform, name: str) -> None:
    async def main(stage: Any) -> None:
        error = await refused(stage.write(NamespaceLifecycle(stage.world), None, namespace(name)))
        assert error.code == 403

    perform(main)


# -- pods


def account(name: str = "default", **fields: Any) -> Object:
    return of("ServiceAccount", name, **fields)


def test_a_pod_gets_its_account_a_token_and_pull_secrets(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        await stage.store(account(imagePullSecrets=[{"name": "pull"}]))
        there = {"name": "own", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
        created = pod(
            "p", {"name": "a"}, {"name": "b", "volumeMounts": [there]}, initContainers=[{"name": "i"}]
        )
        spec = (await stage.write(ServiceAccount(stage.world), created)).obj["spec"]
        assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
        assert spec["imagePullSecrets"] == [{"name": "pull"}]
        (volume,) = spec["volumes"]
        assert volume["name"].startswith("kube-api-access-") and "projected" in volume
        assert spec["containers"][0]["volumeMounts"][0]["name"] == volume["name"]
        assert spec["containers"][1]["volumeMounts"] == [there]
        assert spec["initContainers"][0]["volumeMounts"][0]["readOnly"] is True

    perform(main)


def test_nothing_is_mounted_where_account_or_pod_say_so(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        await stage.store(account("quiet", automountServiceAccountToken=False), account())
        plugin = ServiceAccount(stage.world)
        quiet = await stage.write(plugin, pod("p", serviceAccountName="quiet"))
        assert "volumes" not in quiet.obj["spec"]
        own = await stage.write(plugin, pod("p", automountServiceAccountToken=False))
        assert "volumes" not in own.obj["spec"]
        loud = await stage.write(
            plugin, pod("p", serviceAccountName="quiet", automountServiceAccountToken=True)
        )
        assert "volumes" in loud.obj["spec"]

    perform(main)


def test_the_default_account_is_waited_for_and_others_are_not(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin = ServiceAccount(stage.world)
        began = stage.world.monotonic()
        assert (await refused(stage.write(plugin, pod("p", serviceAccountName="x")))).code == 403
        assert stage.world.monotonic() - began < 0.1
        async with stage.world.nursery() as nursery:
            nursery.start_soon(stage.write, plugin, pod())
            await stage.world.sleep(0.5)
            await stage.store(account())
        assert stage.world.monotonic() - began < 1.0
        mirror = pod("m")
        mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
        assert "serviceAccountName" not in (await stage.write(plugin, mirror)).obj["spec"]

    perform(main)


def test_priority_comes_from_the_class_and_only_from_it(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin = Priority()
        high = of("PriorityClass", "high", "scheduling.k8s.io/v1", "", value=7, preemptionPolicy="Never")
        await stage.store(high)
        spec = (await stage.write(plugin, pod("p", priorityClassName="high"))).obj["spec"]
        assert (spec["priority"], spec["preemptionPolicy"]) == (7, "Never")
        plain = (await stage.write(plugin, pod())).obj["spec"]
        assert (plain["priority"], plain["preemptionPolicy"]) == (0, "PreemptLowerPriority")
        assert (await refused(stage.write(plugin, pod("p", priority=3)))).code == 403
        assert (await refused(stage.write(plugin, pod("p", priorityClassName="none")))).code == 403
        normal = of("PriorityClass", "normal", "scheduling.k8s.io/v1", "", value=1, globalDefault=True)
        await stage.store(normal)
        spec = (await stage.write(plugin, pod())).obj["spec"]
        assert (spec["priority"], spec["priorityClassName"]) == (1, "normal")
        second = of("PriorityClass", "second", "scheduling.k8s.io/v1", "", value=1, globalDefault=True)
        assert (await refused(stage.write(plugin, second))).code == 403
        await stage.write(plugin, normal, normal)

    perform(main)


def test_absence_of_a_node_is_tolerated_for_a_while_unless_the_pod_says_otherwise(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin = DefaultTolerationSeconds(not_ready_seconds=5)
        filled = (await stage.write(plugin, pod())).obj["spec"]["tolerations"]
        assert [(t["key"], t["tolerationSeconds"]) for t in filled] == [
            ("node.kubernetes.io/not-ready", 5),
            ("node.kubernetes.io/unreachable", 300),
        ]
        assert (await stage.write(plugin, pod("p", tolerations=filled))).obj["spec"]["tolerations"] == filled
        everything = [{"operator": "Exists"}]
        kept = (await stage.write(plugin, pod("p", tolerations=everything))).obj["spec"]["tolerations"]
        assert kept == everything

    perform(main)


def test_a_runtime_class_adds_its_overhead_and_its_nodes(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin = RuntimeClass()
        await stage.store(
            of(
                "RuntimeClass",
                "vm",
                "node.k8s.io/v1",
                "",
                handler="vm",
                overhead={"podFixed": {"cpu": "250m"}},
                scheduling={"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm"}]},
            )
        )
        spec = (await stage.write(plugin, pod("p", runtimeClassName="vm"))).obj["spec"]
        assert spec["overhead"] == {"cpu": "250m"} and spec["nodeSelector"] == {"vm": "yes"}
        assert spec["tolerations"] == [{"key": "vm"}]
        same = pod("p", runtimeClassName="vm", overhead={"cpu": "0.25"})
        await stage.write(plugin, same)
        other = pod("p", runtimeClassName="vm", overhead={"cpu": "1"})
        assert (await refused(stage.write(plugin, other))).code == 403
        assert (await refused(stage.write(plugin, pod("p", overhead={"cpu": "1"})))).code == 403

    perform(main)


# -- limits and quotas

QUANTITIES = st.sampled_from(["0", "100m", "1", "1500m", "2"])
CONTAINERS = st.lists(
    st.fixed_dictionaries({"cpu": QUANTITIES, "sidecar": st.booleans()}), min_size=0, max_size=4
)


@given(main=st.lists(QUANTITIES, min_size=1, max_size=3), before=CONTAINERS)
def test_a_pod_needs_the_most_that_runs_at_one_time(main: list[str], before: list[Object]) -> None:
    """Against a plain simulation: start the init containers one by one, then all containers."""

    def container(cpu: str, **more: str) -> Object:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "containers": [container(cpu) for cpu in main],
        "initContainers": [
            container(item["cpu"], **({"restartPolicy": "Always"} if item["sidecar"] else {}))
            for item in before
        ],
    }
    running = peak = Fraction(0)
    for item in before:
        peak = max(peak, running + parse(item["cpu"]))
        if item["sidecar"]:
            running += parse(item["cpu"])
    peak = max(peak, running + sum(parse(cpu) for cpu in main))
    assert pod_amounts(spec, "requests")["cpu"] == peak


def test_limits_are_filled_in_per_container(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        limit = {"type": "Container", "default": {"memory": "1Gi"}, "defaultRequest": {"memory": "1Mi"}}
        await stage.store(of("LimitRange", "l", spec={"limits": [limit]}))
        own = {"name": "b", "resources": {"limits": {"memory": "2Gi"}}}
        created = (await stage.write(LimitRanger(), pod("p", {"name": "a"}, own))).obj
        first, second = created["spec"]["containers"]
        assert first["resources"] == {"requests": {"memory": "1Mi"}, "limits": {"memory": "1Gi"}}
        assert second["resources"] == {"requests": {"memory": "1Mi"}, "limits": {"memory": "2Gi"}}
        assert "kubernetes.io/limit-ranger" in created["metadata"]["annotations"]

    perform(main)


def quota(name: str = "q", hard: Object | None = None, **spec: Any) -> Object:
    hard = hard or {"pods": "3"}
    used = dict.fromkeys(hard, "0")
    return of("ResourceQuota", name, spec={"hard": hard, **spec}, status={"hard": hard, "used": used})


def test_writers_at_the_same_time_never_exceed_a_quota(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        await stage.store(quota())
        outcomes: list[bool] = []

        async def create(plugin: ResourceQuota, name: str) -> None:
            try:
                await stage.write(plugin, pod(name))
                outcomes.append(True)
            except ApiError as error:
                assert error.code == 403
                outcomes.append(False)

        servers = [ResourceQuota(stage.world), ResourceQuota(stage.world)]
        async with stage.world.nursery() as nursery:
            for number in range(8):
                nursery.start_soon(create, servers[number % 2], f"p{number}")
        assert sorted(outcomes) == [False] * 5 + [True] * 3
        live = await stage.registry.live(RESOURCE_QUOTAS, "ns", "q")
        assert live.parse()["status"]["used"] == {"pods": "3"}

    perform(main)


def test_a_quota_counts_growth_scopes_and_dry_runs(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin = ResourceQuota(stage.world)
        await stage.store(
            quota("services", {"services.nodeports": "2"}),
            quota("best", {"pods": "0"}, scopes=["BestEffort"]),
        )

        def service(kind: str, ports: int) -> Object:
            return of("Service", "s", spec={"type": kind, "ports": [{"port": n + 1} for n in range(ports)]})

        await stage.write(plugin, service("ClusterIP", 5))
        await stage.write(plugin, service("NodePort", 2), service("ClusterIP", 2), dry_run=True)
        await stage.write(plugin, service("NodePort", 2), service("NodePort", 1))
        error = await refused(stage.write(plugin, service("NodePort", 3), service("NodePort", 1)))
        assert "exceeded quota: services" in error.message
        assert (await refused(stage.write(plugin, pod()))).code == 403
        burstable = {"name": "c", "resources": {"requests": {"cpu": "1"}}}
        await stage.write(plugin, pod("p", burstable))
        await stage.registry.fresh()
        found = stage.registry.cache(RESOURCE_QUOTAS).get("ns", "services").parse()
        assert found["status"]["used"] == {"services.nodeports": "1"}

    perform(main)


def test_what_one_quota_refuses_no_other_is_charged_for(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        await stage.store(quota("a", {"pods": "3"}), quota("b", {"count/pods": "0"}))
        assert (await refused(stage.write(ResourceQuota(stage.world), pod()))).code == 403
        live = await stage.registry.live(RESOURCE_QUOTAS, "ns", "a")
        assert live.parse()["status"]["used"] == {"pods": "0"}

    perform(main)


def test_a_quota_of_compute_makes_pods_say_what_they_need(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        await stage.store(quota("q", {"requests.cpu": "1", "limits.memory": "1Gi"}))
        plugin = ResourceQuota(stage.world)
        error = await refused(stage.write(plugin, pod()))
        assert "must specify limits.memory for: c; requests.cpu for: c" in error.message
        told = {"requests": {"cpu": "700m"}, "limits": {"memory": "512Mi"}}
        await stage.write(plugin, pod("a", {"name": "c", "resources": told}))
        error = await refused(stage.write(plugin, pod("b", {"name": "c", "resources": told})))
        assert (
            "requested: requests.cpu=700m, used: requests.cpu=700m, limited: requests.cpu=1" in error.message
        )

    perform(main)


# -- storage and networking


def test_claims_get_the_newest_default_class_and_protection(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        def storage_class(name: str, created: str) -> Object:
            marked = {"storageclass.kubernetes.io/is-default-class": "true"}
            metadata = {"annotations": marked, "creationTimestamp": created}
            return of("StorageClass", name, "storage.k8s.io/v1", "", metadata=metadata, provisioner="x")

        await stage.store(
            storage_class("old", "2025-01-01T00:00:00Z"), storage_class("new", "2026-01-01T00:00:00Z")
        )
        claim = of("PersistentVolumeClaim", "c", spec={})
        assert (await stage.write(DefaultStorageClass(), claim)).obj["spec"]["storageClassName"] == "new"
        none = of("PersistentVolumeClaim", "c", spec={"storageClassName": ""})
        assert (await stage.write(DefaultStorageClass(), none)).obj["spec"]["storageClassName"] == ""
        protected = (await stage.write(StorageObjectInUseProtection(), claim)).obj
        assert protected["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]

    perform(main)


def test_a_claim_grows_where_its_class_lets_it(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin = PersistentVolumeClaimResize()
        await stage.store(
            of("StorageClass", "stiff", "storage.k8s.io/v1", "", provisioner="x"),
            of("StorageClass", "soft", "storage.k8s.io/v1", "", provisioner="x", allowVolumeExpansion=True),
        )

        def claim(size: str, kind: str) -> Object:
            spec = {"storageClassName": kind, "resources": {"requests": {"storage": size}}}
            return of("PersistentVolumeClaim", "c", spec=spec, status={"phase": "Bound"})

        await stage.write(plugin, claim("2Gi", "soft"), claim("1Gi", "soft"))
        await stage.write(plugin, claim("1Gi", "stiff"), claim("1024Mi", "stiff"))
        assert (await refused(stage.write(plugin, claim("2Gi", "stiff"), claim("1Gi", "stiff")))).code == 403

    perform(main)


def test_an_ingress_without_a_class_gets_the_default_one(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        marked = {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}
        await stage.store(of("IngressClass", "web", "networking.k8s.io/v1", "", metadata=marked, spec={}))
        ingress = of("Ingress", "i", "networking.k8s.io/v1", spec={})
        assert (await stage.write(DefaultIngressClass(), ingress)).obj["spec"]["ingressClassName"] == "web"

    perform(main)


# -- nodes

NODE_1 = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))


def node(name: str = "n1", **labels: str) -> Object:
    return of("Node", name, namespace="", metadata={"labels": labels}, spec={})


def test_new_nodes_are_tainted_once(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        created = (await stage.write(TaintNodesByCondition(), node())).obj
        again = (await stage.write(TaintNodesByCondition(), created)).obj
        taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
        assert again["spec"]["taints"] == [taint]

    perform(main)


def test_a_kubelet_keeps_to_its_node_and_pods(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin = NodeRestriction()
        mine, other = pod("mine", nodeName="n1"), pod("other", nodeName="n2")
        await stage.store(mine, other)

        async def may(obj: Object | None, old: Object | None = None, **more: Any) -> bool:
            try:
                await stage.write(plugin, obj, old, user=NODE_1, **more)
            except ApiError as error:
                assert error.code == 403
                return False
            return True

        assert await may(node()) and not await may(node("n2"))
        assert await may(node(**{"kubernetes.io/os": "linux"}), node())
        assert not await may(node(**{"node-role.kubernetes.io/control-plane": ""}), node())
        assert not await may(node(**{"x.node-restriction.kubernetes.io/a": ""}))
        assert await may(node(**{"example.com/a": ""}))
        assert await may(None, mine) and not await may(None, other)
        assert await may(mine, mine, subresource="status")
        assert not await may(other, other, subresource="status")
        assert not await may(mine, mine)
        mirror = pod("static", nodeName="n1")
        assert not await may(mirror)
        mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
        assert await may(mirror)
        mirror["spec"]["volumes"] = [{"name": "s", "secret": {"secretName": "s"}}]
        assert not await may(mirror)

        def lease(name: str, where: str) -> Object:
            return of("Lease", name, "coordination.k8s.io/v1", where, spec={})

        assert await may(lease("n1", "kube-node-lease"))
        assert not await may(lease("n2", "kube-node-lease"))
        assert not await may(lease("n1", "kube-system"))

        async def may_ask_token(**reference: str) -> bool:
            request = of("ServiceAccount", "sa", spec={"boundObjectRef": reference or None})
            return await may(request, subresource="token")

        bound = {"kind": "Pod", "apiVersion": "v1"}
        uids = {name: stage.registry.cache(PODS).get("ns", name).uid for name in ("mine", "other")}
        assert await may_ask_token(**bound, name="mine", uid=uids["mine"])
        assert not await may_ask_token(**bound, name="mine", uid=uids["other"])
        assert not await may_ask_token(**bound, name="other", uid=uids["other"])
        assert not await may_ask_token(**bound, name="mine")
        assert not await may_ask_token()

    perform(main)


# -- pod security

RESTRICTED: Object = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}


def test_a_restricted_pod_passes_every_level() -> None:
    for level in ("privileged", "baseline", "restricted"):
        assert violations(level, {}, RESTRICTED) == []


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({"hostNetwork": True}, "baseline"),
        ({"hostIPC": True}, "baseline"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "baseline"),
        ({"volumes": [{"name": "v", "nfs": {"path": "/"}}]}, "restricted"),
        ({"containers": [{"name": "c", "securityContext": {"privileged": True}}]}, "baseline"),
        ({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}, "baseline"),
        (
            {"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
            "baseline",
        ),
        ({"containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}, "baseline"),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "baseline"),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "baseline"),
        ({"securityContext": {"seLinuxOptions": {"user": "root"}}}, "baseline"),
        ({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}, "baseline"),
        ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, "baseline"),
        ({"securityContext": {}}, "restricted"),
        ({"securityContext": {**RESTRICTED["securityContext"], "runAsUser": 0}}, "restricted"),
        ({"containers": [{"name": "c"}]}, "restricted"),
    ],
)
def test_each_level_forbids_what_it_says_and_stricter_ones_too(change: Object, level: str) -> None:
    spec = {**RESTRICTED, **change}
    assert violations("privileged", {}, spec) == []
    assert bool(violations("baseline", {}, spec)) is (level == "baseline")
    assert violations("restricted", {}, spec)


def test_a_namespace_enforces_and_warns_by_its_labels(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        levels = {"enforce": "baseline", "warn": "restricted"}
        labels = {f"pod_security.kubernetes.io__{mode}": level for mode, level in levels.items()}
        plugin = PodSecurity()
        await stage.store(namespace(**labels))
        assert (await refused(stage.write(plugin, pod("p", hostPID=True)))).code == 403
        (warning,) = (await stage.write(plugin, pod())).warnings
        assert warning.startswith('would violate PodSecurity "restricted:latest": ')
        template = of("Deployment", "d", "apps/v1", spec={"template": {"spec": pod()["spec"]}})
        assert len((await stage.write(plugin, template)).warnings) == 1
        await stage.write(plugin, pod("p", hostPID=True), pod("p", hostPID=True))

    perform(main)


def test_raising_a_namespaces_level_warns_about_its_pods_and_a_wrong_level_is_invalid(
    perform: Perform,
) -> None:
    async def main(stage: Any) -> None:
        plugin = PodSecurity()
        await stage.store(namespace(), pod("a", hostPID=True), pod("b", hostPID=True), pod("c"))
        raised = namespace(**{"pod_security.kubernetes.io__enforce": "baseline"})
        warnings = (await stage.write(plugin, raised, namespace())).warnings
        assert warnings[1:] == ["a (and 1 other pod): host namespaces"]
        wrong = namespace(**{"pod_security.kubernetes.io__warn": "strict"})
        assert (await refused(stage.write(plugin, wrong, namespace()))).code == 422

    perform(main)


# -- roles and certificates


def test_nobody_gives_more_than_they_have(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        plugin, rbac = RoleEscalation(), "rbac.authorization.k8s.io/v1"
        rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
        held = of("Role", "held", rbac, rules=[rule])
        subject = {"kind": "User", "name": "somebody", "apiGroup": "rbac.authorization.k8s.io"}

        def binding(kind: str, name: str) -> Object:
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
            return of("RoleBinding", "b", rbac, roleRef=reference, subjects=[subject])

        everything = of("ClusterRole", "all", rbac, "", rules=[{**rule, "verbs": ["*"]}])
        await stage.store(held, binding("Role", "held"), everything)
        await stage.write(plugin, of("Role", "same", rbac, rules=[rule]))
        more = of("Role", "more", rbac, rules=[{**rule, "verbs": ["get", "delete"]}])
        error = await refused(stage.write(plugin, more))
        assert error.code == 403 and "not currently held" in error.message
        await stage.write(plugin, more, more)
        await stage.write(plugin, more, user=UserInfo("root", ("system:masters",)))
        await stage.write(plugin, binding("Role", "held"))
        assert (await refused(stage.write(plugin, binding("ClusterRole", "all")))).code == 403
        assert (await refused(stage.write(plugin, binding("ClusterRole", "none")))).code == 404
        combined = of(
            "ClusterRole", "sum", rbac, "", aggregationRule={"clusterRoleSelectors": [{}]}, rules=[]
        )
        assert (await refused(stage.write(plugin, combined))).code == 403

    perform(main)


def test_approving_needs_permission_for_the_signer(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        request = of(
            "CertificateSigningRequest",
            "r",
            "certificates.k8s.io/v1",
            "",
            spec={"signerName": "example.com/signer", "request": ""},
        )
        plugin = CertificateApproval()
        asked = stage.write(plugin, request, request, subresource="approval")
        assert (await refused(asked)).code == 403
        root = UserInfo("root", ("system:masters",))
        await stage.write(plugin, request, request, subresource="approval", user=root)

    perform(main)


def test_the_whole_chain_prepares_a_pod(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        await stage.store(namespace(), account())
        chain = Admission(default_plugins(stage.world), stage.registry)
        attributes = Attributes("CREATE", PODS, "", "ns", "p", pod(), None, UserInfo("u"), False, [])
        await chain.admit(attributes)
        await chain.validate(attributes)
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        assert spec["priority"] == 0 and len(spec["tolerations"]) == 2 and len(spec["volumes"]) == 1

    perform(main)
