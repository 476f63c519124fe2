"""What authorization promises: roles as written, nodes to what their pods need, masters everything."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.apiserver.access import AccessAttributes, forbidden_access, required_fields
from understudy.components.apiserver.authorization import Authorizer, Decision
from understudy.components.apiserver.bootstrap_policy import initial_objects
from understudy.components.apiserver.context import UserInfo
from understudy.components.apiserver.plugins.role_escalation import atoms, holds
from understudy.components.apiserver.rbac import rule_of
from understudy.components.machinery.defaults import apply_defaults
from understudy.components.machinery.validation import validate_create

RBAC = "rbac.authorization.k8s.io/v1"
Perform = Callable[[Callable[[Any], Any]], Any]
Object = dict[str, Any]


def user(name: str, *groups: str) -> UserInfo:
    return UserInfo(name, (*groups, "system:authenticated"))


def role(name: str, *rules: Object, namespace: str = "") -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    kind = "Role" if namespace else "ClusterRole"
    return {"kind": kind, "apiVersion": RBAC, "metadata": metadata, "rules": list(rules)}


def binding(name: str, to: Object, *subjects: Object, namespace: str = "") -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    reference = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": to["kind"],
        "name": to["metadata"]["name"],
    }
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    return {
        "kind": kind,
        "apiVersion": RBAC,
        "metadata": metadata,
        "roleRef": reference,
        "subjects": list(subjects),
    }


def pods_rule(*verbs: str, **more: list[str]) -> Object:
    return {"verbs": list(verbs), "apiGroups": [""], "resources": ["pods"], **more}


ALICE = {"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}


def test_masters_may_do_anything(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        asked = AccessAttributes(user("root", "system:masters"), "delete", plural="nodes", name="n")
        assert Authorizer(stage.registry).authorize(asked) == Decision(True)

    perform(main)


def test_a_role_binding_holds_in_its_namespace_only(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        authorizer = Authorizer(stage.registry)
        reader = role("reader", pods_rule("get", "list"))
        await stage.store(reader, binding("b", reader, ALICE, namespace="here"))

        def may(verb: str, namespace: str) -> bool:
            asked = AccessAttributes(user("alice"), verb, plural="pods", namespace=namespace, name="p")
            return authorizer.authorize(asked).allowed

        assert may("get", "here")
        assert not may("delete", "here")
        assert not may("get", "there")
        assert not may("get", "")

    perform(main)


def test_a_changed_role_and_a_removed_binding_count_at_once(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        authorizer = Authorizer(stage.registry)
        asked = AccessAttributes(user("alice"), "get", plural="pods", namespace="x", name="p")
        reader = role("reader", pods_rule("list"))
        bound = binding("b", reader, ALICE)
        await stage.store(bound)
        refused = authorizer.authorize(asked)
        assert not refused.allowed and '"reader" not found' in refused.reason
        (kept,) = await stage.store(reader)
        assert not authorizer.authorize(asked).allowed
        changed = {**kept.parse(), "rules": [pods_rule("get")]}
        await stage.registry.replace(kept, changed)
        await stage.registry.fresh()
        allowed = authorizer.authorize(asked)
        assert allowed.allowed
        assert allowed.reason == (
            'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "reader" to User "alice"'
        )
        await stage.remove(bound)
        assert not authorizer.authorize(asked).allowed

    perform(main)


def test_names_paths_subresources_and_service_accounts(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        authorizer = Authorizer(stage.registry)
        named = role(
            "named",
            pods_rule("get", resourceNames=["a"]),
            {"verbs": ["update"], "apiGroups": ["*"], "resources": ["*/scale"]},
            {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]},
        )
        account = {"kind": "ServiceAccount", "name": "robot", "namespace": "ns"}
        await stage.store(named, binding("b", named, account))
        robot = user("system:serviceaccount:ns:robot")

        def may(**asked: Any) -> bool:
            return authorizer.authorize(AccessAttributes(robot, **asked)).allowed

        assert may(verb="get", plural="pods", namespace="x", name="a")
        assert not may(verb="get", plural="pods", namespace="x", name="b")
        assert not may(verb="get", plural="pods", namespace="x")
        assert not may(verb="get", plural="pods", subresource="log", namespace="x", name="a")
        assert may(verb="update", group="apps", plural="deployments", subresource="scale", name="d")
        assert not may(verb="update", group="apps", plural="deployments", name="d")
        assert may(verb="get", path="/logs/today", is_resource=False)
        assert not may(verb="get", path="/logsx", is_resource=False)
        assert not may(verb="get", path="/metrics/x", is_resource=False)

    perform(main)


VERBS, GROUPS, RESOURCES, NAMES = (
    ["get", "list", "*"],
    ["", "apps", "*"],
    ["pods", "pods/log", "*"],
    ["a", "b"],
)


def rules() -> st.SearchStrategy[Object]:
    def some(items: list[str], least: int = 1) -> st.SearchStrategy[list[str]]:
        return st.lists(st.sampled_from(items), min_size=least, max_size=2, unique=True)

    return st.fixed_dictionaries(
        {
            "verbs": some(VERBS),
            "apiGroups": some(GROUPS),
            "resources": some([*RESOURCES, "*/log"]),
            "resourceNames": some(NAMES, least=0),
        }
    )


@given(held=st.lists(rules(), max_size=3), wanted=rules())
def test_who_holds_a_rule_may_do_all_that_it_allows(held: list[Object], wanted: Object) -> None:
    """The check against escalation lets nothing pass that its owner could not do anyway."""
    own, new = [rule_of(raw) for raw in held], rule_of(wanted)
    if not all(holds(own, atom) for atom in atoms(wanted)):
        return
    for verb in ("get", "list", "watch"):
        for group in ("", "apps", "batch"):
            for plural, subresource in (("pods", ""), ("pods", "log"), ("nodes", "log")):
                for name in ("a", "b", "c"):
                    if new.covers(verb, group, plural, subresource, name):
                        assert any(rule.covers(verb, group, plural, subresource, name) for rule in own)


@given(raw=rules())
def test_every_rule_holds_itself(raw: Object) -> None:
    assert all(holds([rule_of(raw)], atom) for atom in atoms(raw))


# -- nodes

POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "p", "namespace": "ns"},
    "spec": {
        "nodeName": "n1",
        "serviceAccountName": "sa",
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [
            {
                "name": "c",
                "envFrom": [{"configMapRef": {"name": "env"}}],
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}],
            }
        ],
        "volumes": [
            {"name": "a", "secret": {"secretName": "mounted"}},
            {"name": "b", "projected": {"sources": [{"configMap": {"name": "projected"}}]}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}},
        ],
    },
}
CLAIM = {
    "kind": "PersistentVolumeClaim",
    "apiVersion": "v1",
    "metadata": {"name": "claim", "namespace": "ns"},
    "spec": {"volumeName": "volume"},
}


def test_a_node_reads_what_its_pods_refer_to_and_nothing_else(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        authorizer = Authorizer(stage.registry)
        await stage.store(POD, CLAIM)

        def may(node: str, verb: str, plural: str, name: str, **more: Any) -> bool:
            who = user(f"system:node:{node}", "system:nodes")
            return authorizer.authorize(
                AccessAttributes(who, verb, plural=plural, namespace="ns", name=name, **more)
            ).allowed

        related = [
            ("secrets", "pull"),
            ("secrets", "key"),
            ("secrets", "mounted"),
            ("configmaps", "env"),
            ("configmaps", "projected"),
            ("persistentvolumeclaims", "claim"),
            ("persistentvolumes", "volume"),
            ("pods", "p"),
        ]
        for plural, name in related:
            assert may("n1", "get", plural, name), (plural, name)
            assert not may("n2", "get", plural, name), (plural, name)
        assert not may("n1", "get", "secrets", "other")
        assert not may("n1", "list", "secrets", "")
        assert not may("n1", "update", "secrets", "key")
        assert may("n1", "create", "serviceaccounts", "sa", subresource="token")
        assert not may("n1", "create", "serviceaccounts", "default", subresource="token")
        assert may("n1", "list", "pods", "", field_selector=(("spec.nodeName", "n1"),))
        assert not may("n1", "list", "pods", "", field_selector=(("spec.nodeName", "n2"),))
        assert not may("n1", "list", "pods", "", field_selector=())
        await stage.remove(POD)
        assert not may("n1", "get", "secrets", "key")

    perform(main)


def test_a_node_has_its_own_lease_and_node(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        authorizer = Authorizer(stage.registry)

        def may(verb: str, group: str, plural: str, name: str, namespace: str = "") -> bool:
            who = user("system:node:n1", "system:nodes")
            asked = AccessAttributes(who, verb, group, "v1", plural, "", namespace, name, field_selector=())
            return authorizer.authorize(asked).allowed

        assert may("update", "coordination.k8s.io", "leases", "n1", "kube-node-lease")
        assert not may("update", "coordination.k8s.io", "leases", "n2", "kube-node-lease")
        assert not may("update", "coordination.k8s.io", "leases", "n1", "kube-system")
        assert may("get", "", "nodes", "n1")
        assert not may("get", "", "nodes", "n2")
        assert may("list", "", "services", "")
        assert not may("create", "", "secrets", "x", "default")

    perform(main)


# -- the policy of a new cluster


def test_the_objects_of_a_new_cluster_are_valid_and_distinct(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        objects = initial_objects(stage.world, "10.0.0.1", 6443)
        names = [(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects]
        assert len(set(names)) == len(names)
        for obj in objects:
            obj["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
            apply_defaults(obj)
            assert validate_create(obj) == [], obj

    perform(main)


@pytest.mark.parametrize(
    ("name", "groups", "asked", "allowed"),
    [
        ("system:kube-scheduler", (), {"verb": "create", "plural": "pods", "subresource": "binding"}, True),
        ("system:kube-scheduler", (), {"verb": "get", "plural": "secrets", "namespace": "x"}, False),
        ("system:kube-controller-manager", (), {"verb": "delete", "group": "a.io", "plural": "bs"}, True),
        ("system:kube-proxy", (), {"verb": "watch", "plural": "services"}, True),
        ("system:kube-proxy", (), {"verb": "update", "plural": "services"}, False),
        ("system:coredns", (), {"verb": "list", "plural": "namespaces"}, True),
        ("alice", (), {"verb": "get", "path": "/apis/apps/v1", "is_resource": False}, True),
        ("alice", (), {"verb": "get", "path": "/metrics", "is_resource": False}, False),
        (
            "alice",
            (),
            {"verb": "create", "group": "authorization.k8s.io", "plural": "selfsubjectaccessreviews"},
            True,
        ),
        ("alice", (), {"verb": "list", "plural": "pods", "namespace": "default"}, False),
    ],
)
def test_a_new_cluster_lets_everybody_do_their_part(
    perform: Perform, name: str, groups: tuple[str, ...], asked: Object, allowed: bool
) -> None:
    async def main(stage: Any) -> None:
        await stage.store(*initial_objects(stage.world))
        question = AccessAttributes(user(name, *groups), **asked)
        assert Authorizer(stage.registry).authorize(question).allowed is allowed

    perform(main)


def test_the_sum_of_a_users_rules_is_listed(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        own = role("own", pods_rule("get"), namespace="ns")
        await stage.store(*initial_objects(stage.world), own, binding("b", own, ALICE, namespace="ns"))
        authorizer = Authorizer(stage.registry)
        resources, paths, incomplete = authorizer.rules_for(user("alice"), "ns")
        assert pods_rule("get") in resources and incomplete
        assert any("/version" in rule["nonResourceURLs"] for rule in paths)
        assert pods_rule("get") not in authorizer.rules_for(user("alice"), "other")[0]

    perform(main)


# -- questions


def test_a_refusal_says_who_may_not_do_what_where() -> None:
    asked = AccessAttributes(user("bob"), "get", "apps", "v1", "deployments", "scale", "ns", "d")
    error = forbidden_access(asked, Decision(False, "because"))
    assert error.code == 403
    assert error.message == (
        'deployments.apps "d" is forbidden: User "bob" cannot get resource "deployments/scale" in API group'
        ' "apps" in the namespace "ns": because'
    )
    assert error.details == {"name": "d", "group": "apps", "kind": "deployments"}


def test_only_equalities_restrict_a_selection() -> None:
    assert required_fields("spec.nodeName=n1,status.phase!=Failed,a==b") == (
        ("spec.nodeName", "n1"),
        ("a", "b"),
    )
