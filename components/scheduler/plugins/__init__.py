"""The plugins of the default profile, with the default weights.

`node_state`          NodeUnschedulable, NodeName, NodePorts
`taint_toleration`    TaintToleration
`node_affinity`       NodeAffinity, with nodeSelector
`node_resources`      NodeResourcesFit, NodeResourcesBalancedAllocation
`pod_topology_spread` PodTopologySpread, with the system's default constraints
`inter_pod_affinity`  InterPodAffinity
`image_locality`      ImageLocality
"""

from understudy.components.scheduler.framework import Profile
from understudy.components.scheduler.plugins.image_locality import ImageLocality
from understudy.components.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from understudy.components.scheduler.plugins.node_affinity import NodeAffinity
from understudy.components.scheduler.plugins.node_resources import (
    NodeResourcesBalancedAllocation,
    NodeResourcesFit,
)
from understudy.components.scheduler.plugins.node_state import NodeName, NodePorts, NodeUnschedulable
from understudy.components.scheduler.plugins.pod_topology_spread import PodTopologySpread
from understudy.components.scheduler.plugins.taint_toleration import TaintToleration
from understudy.components.scheduler.pod_info import DEFAULT_SCHEDULER


def default_profile(scheduler_name: str = DEFAULT_SCHEDULER) -> Profile:
    """The profile of a scheduler without configuration."""
    taints, affinity, fit = TaintToleration(), NodeAffinity(), NodeResourcesFit()
    spread, pod_affinity = PodTopologySpread(), InterPodAffinity()
    return Profile(
        scheduler_name,
        filters=(
            NodeUnschedulable(),
            NodeName(),
            taints,
            affinity,
            NodePorts(),
            fit,
            spread,
            pod_affinity,
        ),
        scores=(
            (taints, 3),
            (affinity, 2),
            (fit, 1),
            (spread, 2),
            (pod_affinity, 2),
            (NodeResourcesBalancedAllocation(), 1),
            (ImageLocality(), 1),
        ),
    )
