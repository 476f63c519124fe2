"""The admission plugins that are on by default, and NodeRestriction, in the real server's order.

Not here: admission webhooks and the CEL policies (a later part of the API server), PodTopologyLabels,
ClusterTrustBundleAttest, and the plugins that are off by default.
"""

from understudy.actors import World
from understudy.components.apiserver.admission import Plugin
from understudy.components.apiserver.authorization import Authorizer

from .certificates import CertificateApproval, CertificateSigning, CertificateSubjectRestriction
from .ingress_class import DefaultIngressClass
from .limit_ranger import LimitRanger
from .namespace_lifecycle import NamespaceLifecycle
from .node_restriction import NodeRestriction
from .nodes import DefaultTolerationSeconds, TaintNodesByCondition
from .pod_security import PodSecurity
from .priority import Priority
from .resource_quota import ResourceQuota
from .role_escalation import RoleEscalation
from .runtime_class import RuntimeClass
from .service_account import ServiceAccount
from .volumes import DefaultStorageClass, PersistentVolumeClaimResize, StorageObjectInUseProtection


def default_plugins(world: World, authorizer: Authorizer | None = None) -> tuple[Plugin, ...]:
    """The chain. Plugins that ask for permissions make an authorizer of their own when none is given."""
    return (
        NamespaceLifecycle(world),
        LimitRanger(),
        ServiceAccount(world),
        NodeRestriction(),
        TaintNodesByCondition(),
        PodSecurity(),
        Priority(),
        DefaultTolerationSeconds(),
        DefaultStorageClass(),
        StorageObjectInUseProtection(),
        PersistentVolumeClaimResize(),
        RuntimeClass(),
        CertificateApproval(authorizer),
        CertificateSigning(authorizer),
        CertificateSubjectRestriction(),
        DefaultIngressClass(),
        RoleEscalation(authorizer),
        ResourceQuota(world),
    )
