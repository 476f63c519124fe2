"""Role-based access control: what the roles that are bound to a user let it do.

Bindings are kept by subject, in step with the watch cache, and what was worked out for a user is remembered
until a role or a binding changes, so that a check costs a few dictionary look-ups.

Source: Kubernetes documentation, "Using RBAC Authorization".
"""

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, field, frozen

from understudy.components.machinery.api import Object
from understudy.components.machinery.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ROLE_BINDINGS,
    ROLES,
    Resource,
)

from .cacher import Interest, Seen
from .context import UserInfo
from .encoding import Stored
from .registry import Registry

REMEMBERED_USERS_MAX = 1024
REMEMBERED_QUESTIONS_MAX = 4096
"""A user's; beyond it, what was remembered is worked out again."""

SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


@frozen
class Rule:
    """One policy rule, ready to be matched."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    """`pods`, `pods/log`, `*`, `*/scale`."""
    names: frozenset[str]
    """Empty: of any name."""
    urls: tuple[str, ...]
    """Paths that are no resources; a trailing `*` stands for any rest."""

    def covers_kind(self, verb: str, group: str, plural: str, subresource: str) -> bool:
        """Whether the rule is about that verb and resource, names aside."""
        if verb not in self.verbs and "*" not in self.verbs:
            return False
        if group not in self.groups and "*" not in self.groups:
            return False
        resources = self.resources
        if "*" in resources:
            return True
        if not subresource:
            return plural in resources
        return f"{plural}/{subresource}" in resources or f"*/{subresource}" in resources

    def covers(self, verb: str, group: str, plural: str, subresource: str, name: str) -> bool:
        """Whether the rule allows that verb on that object."""
        return self.covers_kind(verb, group, plural, subresource) and (not self.names or name in self.names)

    def covers_path(self, verb: str, path: str) -> bool:
        """Whether the rule allows that verb on a path that is no resource."""
        if verb not in self.verbs and "*" not in self.verbs:
            return False
        return any(
            url in ("*", path) or (url.endswith("*") and path.startswith(url.rstrip("*")))
            for url in self.urls
        )


def rule_of(raw: Object) -> Rule:
    """A rule of a Role or ClusterRole."""
    return Rule(
        frozenset(raw.get("verbs") or ()),
        frozenset(raw.get("apiGroups") or ()),
        frozenset(raw.get("resources") or ()),
        frozenset(raw.get("resourceNames") or ()),
        tuple(raw.get("nonResourceURLs") or ()),
    )


@frozen
class Grant:
    """A role as one binding gives it to one user."""

    namespace: str
    """Where it holds; "" everywhere."""
    rules: tuple[Rule, ...]
    raw_rules: tuple[Object, ...]
    """As written in the role. Not to be changed."""
    reason: str


@frozen
class Access:
    """What the remembered part of a check knows: names aside, and by name."""

    reason: str | None
    """Why any object of the kind is allowed; None: only the named ones are."""
    named: tuple[tuple[frozenset[str], str], ...]
    """Names and why they are allowed."""


@define(eq=False)
class UserAccess:
    """What a user may do."""

    grants: tuple[Grant, ...]
    missing: tuple[str, ...]
    """Roles that are bound but not there."""
    _remembered: dict[tuple[str, str, str, str, str], Access] = field(factory=dict)

    def resource(
        self, verb: str, group: str, plural: str, subresource: str, namespace: str, name: str
    ) -> str | None:
        """Why that is allowed, or None."""
        key = (verb, group, plural, subresource, namespace)
        access = self._remembered.get(key)
        if access is None:
            if len(self._remembered) >= REMEMBERED_QUESTIONS_MAX:
                self._remembered.clear()
            access = self._remembered[key] = self._access(*key)
        if access.reason is not None:
            return access.reason
        return next((reason for names, reason in access.named if name in names), None)

    def _access(self, verb: str, group: str, plural: str, subresource: str, namespace: str) -> Access:
        named: list[tuple[frozenset[str], str]] = []
        for grant in self.within(namespace):
            for rule in grant.rules:
                if rule.covers_kind(verb, group, plural, subresource):
                    if not rule.names:
                        return Access(grant.reason, ())
                    named.append((rule.names, grant.reason))
        return Access(None, tuple(named))

    def path(self, verb: str, path: str) -> str | None:
        """Why that path, which is no resource, is allowed, or None."""
        for grant in self.grants:
            if not grant.namespace and any(rule.covers_path(verb, path) for rule in grant.rules):
                return grant.reason
        return None

    def within(self, namespace: str) -> Iterator[Grant]:
        """The grants that hold in the namespace; only the cluster's own for ""."""
        return (grant for grant in self.grants if not grant.namespace or grant.namespace == namespace)


@frozen
class _Subject:
    kind: str
    name: str
    """Of a service account: its user name."""
    shown: str


@frozen
class _Binding:
    namespace: str
    name: str
    role_kind: str
    role_name: str
    subjects: tuple[_Subject, ...]


def subjects_of(binding: Object) -> tuple[_Subject, ...]:
    """The subjects of a binding, by the names under which users and groups are known."""
    found = []
    namespace = binding["metadata"].get("namespace", "")
    for subject in binding.get("subjects") or ():
        name = subject["name"]
        if subject["kind"] == "ServiceAccount":
            where = subject.get("namespace") or namespace
            shown = f'ServiceAccount "{name}/{where}"'
            found.append(_Subject("User", f"{SERVICE_ACCOUNT_PREFIX}{where}:{name}", shown))
        else:
            found.append(_Subject(subject["kind"], name, f'{subject["kind"]} "{name}"'))
    return tuple(found)


_Key = tuple[str, str]


@define(eq=False)
class RoleBasedAccess:
    """Roles and bindings of the registry, by who they are for."""

    registry: Registry
    _bindings: dict[_Key, _Binding] = field(factory=dict)
    _by_subject: dict[tuple[str, str], dict[_Key, None]] = field(factory=dict)
    _changed: dict[_Key, Stored | None] = field(factory=dict)
    """Bindings that were written since the last question: most writes are never asked about."""
    _users: dict[tuple[str, tuple[str, ...]], UserAccess] = field(factory=dict)
    _rules: dict[tuple[str, str, str], tuple[Stored, tuple[Rule, ...], tuple[Object, ...]]] = field(
        factory=dict
    )

    def __attrs_post_init__(self) -> None:
        everything = Interest()
        for resource in (CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS):
            cache = self.registry.cache(resource)
            for entry in cache.objects.values():
                self._changed[entry.namespace, entry.name] = entry
            cache.subscribe(everything, self._on_binding)
        for resource in (CLUSTER_ROLES, ROLES):
            self.registry.cache(resource).subscribe(everything, self._on_role)

    def of(self, user: UserInfo) -> UserAccess:
        """What the user may do, as of now."""
        if self._changed:
            self._take_in()
        key = (user.name, user.groups)
        access = self._users.get(key)
        if access is None:
            if len(self._users) >= REMEMBERED_USERS_MAX:
                self._users.clear()
            access = self._users[key] = self._work_out(user)
        return access

    def role_rules(self, kind: str, namespace: str, name: str) -> tuple[Object, ...] | None:
        """The rules of a role as written, None when there is no such role."""
        role = self._role(kind, namespace, name)
        return None if role is None else role[1]

    def _on_binding(self, seen: Seen, revision: int) -> None:
        entry = seen.entry
        self._changed[entry.namespace, entry.name] = None if seen.type == "DELETED" else entry

    def _on_role(self, seen: Seen, revision: int) -> None:
        self._users.clear()
        if seen.type == "DELETED":
            self._rules.pop((seen.entry.resource.kind, seen.entry.namespace, seen.entry.name), None)

    def _take_in(self) -> None:
        changed, self._changed = self._changed, {}
        self._users.clear()
        for key, entry in changed.items():
            before = self._bindings.pop(key, None)
            for subject in before.subjects if before is not None else ():
                self._by_subject[subject.kind, subject.name].pop(key, None)
            if entry is None:
                continue
            obj = entry.parse()
            reference = obj["roleRef"]
            binding = _Binding(*key, reference["kind"], reference["name"], subjects_of(obj))
            self._bindings[key] = binding
            for subject in binding.subjects:
                self._by_subject.setdefault((subject.kind, subject.name), {})[key] = None

    def _work_out(self, user: UserInfo) -> UserAccess:
        mine = [("User", user.name), *(("Group", group) for group in user.groups)]
        keys = {key for subject in mine for key in self._by_subject.get(subject, ())}
        grants, missing = [], []
        for key in sorted(keys):
            binding = self._bindings[key]
            role = self._role(binding.role_kind, binding.namespace, binding.role_name)
            if role is None:
                missing.append(
                    f'{binding.role_kind.lower()}.rbac.authorization.k8s.io "{binding.role_name}" not found'
                )
                continue
            subject = next(s for s in binding.subjects if (s.kind, s.name) in mine)
            at = f"{binding.name}/{binding.namespace}" if binding.namespace else binding.name
            kind = "RoleBinding" if binding.namespace else "ClusterRoleBinding"
            reason = (
                f'RBAC: allowed by {kind} "{at}" of {binding.role_kind} "{binding.role_name}"'
                f" to {subject.shown}"
            )
            grants.append(Grant(binding.namespace, *role, reason))
        return UserAccess(tuple(grants), tuple(missing))

    def _role(
        self, kind: str, namespace: str, name: str
    ) -> tuple[tuple[Rule, ...], tuple[Object, ...]] | None:
        resource: Resource = CLUSTER_ROLES if kind == "ClusterRole" else ROLES
        where = "" if kind == "ClusterRole" else namespace
        entry = self.registry.cache(resource).get(where, name)
        if entry is None:
            return None
        known = self._rules.get((kind, where, name))
        if known is None or known[0] is not entry:
            raw: Sequence[Any] = entry.parse().get("rules") or ()
            known = (entry, tuple(rule_of(rule) for rule in raw), tuple(raw))
            self._rules[kind, where, name] = known
        return known[1:]
