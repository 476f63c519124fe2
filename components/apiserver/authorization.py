"""Authorization: members of system:masters may do all; then the Node authorizer is asked, then RBAC."""

from attrs import define, field

from understudy.components.machinery.api import Object

from .access import AccessAttributes as AccessAttributes
from .access import Decision as Decision
from .access import access_attributes as access_attributes
from .access import forbidden_access as forbidden_access
from .context import UserInfo
from .node_authorizer import NodeAuthorizer
from .rbac import RoleBasedAccess
from .registry import Registry

MASTERS_GROUP = "system:masters"

_MASTER = Decision(True, "")


@define(eq=False)
class Authorizer:
    """Who may do what, by the objects in the registry's caches."""

    registry: Registry
    nodes: NodeAuthorizer = field(init=False)
    roles: RoleBasedAccess = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.nodes = NodeAuthorizer(self.registry)
        self.roles = RoleBasedAccess(self.registry)

    def authorize(self, asked: AccessAttributes) -> Decision:
        """Whether the user may; a refusal has the reasons of those who were asked."""
        user = asked.user
        if MASTERS_GROUP in user.groups:
            return _MASTER
        by_node = self.nodes.authorize(asked)
        if by_node.allowed:
            return by_node
        access = self.roles.of(user)
        if asked.is_resource:
            reason = access.resource(
                asked.verb, asked.group, asked.plural, asked.subresource, asked.namespace, asked.name
            )
        else:
            reason = access.path(asked.verb, asked.path)
        if reason is not None:
            return Decision(True, reason)
        reasons = [by_node.reason] if by_node.reason else []
        if access.missing:
            reasons.append(f"RBAC: {', '.join(access.missing)}")
        return Decision(False, "\n".join(reasons))

    def require(self, asked: AccessAttributes) -> None:
        """Raise 403 unless the user may."""
        decision = self.authorize(asked)
        if not decision.allowed:
            raise forbidden_access(asked, decision)

    def rules_for(self, user: UserInfo, namespace: str) -> tuple[list[Object], list[Object], bool]:
        """What the user may do in a namespace: resource rules, path rules, and whether that is not all.

        The Node authorizer's rules depend on pods and cannot be listed.
        """
        resource_rules: list[Object] = []
        path_rules: list[Object] = []
        for grant in self.roles.of(user).within(namespace):
            for rule in grant.raw_rules:
                if rule.get("resources"):
                    kept = ("verbs", "apiGroups", "resources", "resourceNames")
                    resource_rules.append({key: rule[key] for key in kept if rule.get(key)})
                if rule.get("nonResourceURLs") and not grant.namespace:
                    path_rules.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
        return resource_rules, path_rules, True
