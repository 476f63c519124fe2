"""Nobody gives away more than they have: a check of writes to roles and bindings.

Who writes a role must hold its rules already, or may `escalate` that role; who binds a role must hold its
rules, or may `bind` it. The real server does this in the storage of these kinds, after mutating admission; it
is a plugin here. Source: Kubernetes documentation, "Using RBAC Authorization", "Privilege escalation
prevention".
"""

from collections.abc import Iterable, Iterator, Sequence

from attrs import define

from understudy.components.apiserver.access import AccessAttributes
from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.authorization import MASTERS_GROUP, Authorizer
from understudy.components.apiserver.rbac import Rule, rule_of
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import not_found
from understudy.components.machinery.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ROLE_BINDINGS,
    ROLES,
)

from .plugin import AdmissionPlugin, refusal

GROUP = ROLES.group
_EVERYTHING: list[Object] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]


@define(eq=False)
class RoleEscalation(AdmissionPlugin):
    """Compares what is granted with what the writer has."""

    authorizer: Authorizer | None = None

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        resource = attributes.resource
        if resource.group != GROUP or attributes.operation not in ("CREATE", "UPDATE"):
            return
        if MASTERS_GROUP in attributes.user.groups or attributes.obj is None:
            return
        if self.authorizer is None:
            self.authorizer = Authorizer(registry)
        if resource is ROLES or resource is CLUSTER_ROLES:
            self._check_role(attributes, self.authorizer)
        elif resource is ROLE_BINDINGS or resource is CLUSTER_ROLE_BINDINGS:
            self._check_binding(attributes, self.authorizer)

    def _check_role(self, attributes: Attributes, authorizer: Authorizer) -> None:
        new, old = attributes.obj, attributes.old
        assert new is not None
        unchanged = old is not None and all(
            (new.get(key) or None) == (old.get(key) or None) for key in ("rules", "aggregationRule")
        )
        if unchanged or _may(authorizer, attributes, "escalate", attributes.resource.plural, attributes.name):
            return
        if new.get("aggregationRule"):
            _require_held(authorizer, attributes, _EVERYTHING)
        _require_held(authorizer, attributes, new.get("rules") or [])

    def _check_binding(self, attributes: Attributes, authorizer: Authorizer) -> None:
        new, old = attributes.obj, attributes.old
        assert new is not None
        if old is not None and all(new.get(key) == old.get(key) for key in ("roleRef", "subjects")):
            return
        reference = new.get("roleRef") or {}
        kind, name = reference.get("kind", ""), reference.get("name", "")
        if kind not in ("Role", "ClusterRole"):
            return  # validation says what is wrong with it
        plural = ROLES.plural if kind == "Role" else CLUSTER_ROLES.plural
        if _may(authorizer, attributes, "bind", plural, name):
            return
        rules = authorizer.roles.role_rules(kind, attributes.namespace, name)
        if rules is None:
            raise not_found(GROUP, attributes.resource.plural, name)
        _require_held(authorizer, attributes, rules)


def _may(authorizer: Authorizer, attributes: Attributes, verb: str, plural: str, name: str) -> bool:
    asked = AccessAttributes(
        attributes.user,
        verb,
        group=GROUP,
        version="v1",
        plural=plural,
        namespace=attributes.namespace,
        name=name,
    )
    return authorizer.authorize(asked).allowed


def _require_held(authorizer: Authorizer, attributes: Attributes, rules: Iterable[Object]) -> None:
    held = [
        rule
        for grant in authorizer.roles.of(attributes.user).within(attributes.namespace)
        for rule in grant.rules
        if not grant.namespace or rule.resources
    ]
    missing = [raw for raw in rules if not all(holds(held, atom) for atom in atoms(raw))]
    if not missing:
        return
    shown = "\n".join(_shown(raw) for raw in missing)
    groups = " ".join(f'"{group}"' for group in attributes.user.groups)
    raise refusal(
        attributes,
        f'user "{attributes.user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not'
        f" currently held:\n{shown}",
    )


def atoms(raw: Object) -> Iterator[Rule]:
    """A rule taken apart: one verb on one resource of one group, or on one path."""
    for verb in raw.get("verbs") or ():
        for url in raw.get("nonResourceURLs") or ():
            yield rule_of({"verbs": [verb], "nonResourceURLs": [url]})
        for group in raw.get("apiGroups") or ():
            for resource in raw.get("resources") or ():
                for name in raw.get("resourceNames") or [""]:
                    names = [name] if name else []
                    yield rule_of(
                        {
                            "verbs": [verb],
                            "apiGroups": [group],
                            "resources": [resource],
                            "resourceNames": names,
                        }
                    )


def holds(held: Sequence[Rule], atom: Rule) -> bool:
    return any(_covers(rule, atom) for rule in held)


def _covers(rule: Rule, atom: Rule) -> bool:
    if not ("*" in rule.verbs or atom.verbs <= rule.verbs):
        return False
    if atom.urls:
        url = atom.urls[0]
        return any(own == url or (own.endswith("*") and url.startswith(own.rstrip("*"))) for own in rule.urls)
    if not ("*" in rule.groups or atom.groups <= rule.groups):
        return False
    resource = next(iter(atom.resources))
    _, separator, below = resource.partition("/")
    known = "*" in rule.resources or resource in rule.resources
    if not known and not (separator and f"*/{below}" in rule.resources):
        return False
    return not rule.names or (bool(atom.names) and atom.names <= rule.names)


def _shown(raw: Object) -> str:
    parts = []
    for key, title in (
        ("nonResourceURLs", "NonResourceURLs"),
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("resourceNames", "ResourceNames"),
        ("verbs", "Verbs"),
    ):
        if raw.get(key):
            parts.append(f"{title}:[" + " ".join(f'"{item}"' for item in raw[key]) + "]")
    return "{" + ", ".join(parts) + "}"
