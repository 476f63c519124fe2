"""Understudy: a Kubernetes made of Trio actors that stands in for the real one.

`async with understudy.Cluster(nodes=3) as cluster:` in any Trio program starts a whole cluster.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.components.cluster import Cluster as Cluster
    from understudy.components.cluster import ClusterOptions as ClusterOptions

__all__ = ["Cluster", "ClusterOptions"]


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: the runtime alone (`understudy.actors`) does without the whole cluster.
    if name in __all__:
        from understudy.components import cluster

        return getattr(cluster, name)
    raise AttributeError(f"module 'understudy' has no attribute {name!r}")
