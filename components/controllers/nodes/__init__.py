"""Controllers of nodes and of the pods on them.

- `health`: what a node's silence means (pure); `zones`: how fast evictions may go (pure); `taints` (pure)
- `lifecycle_controller`: conditions and taints; `eviction_controller`: NoExecute taints drive pods away
- `ipam`, `ipam_controller`: pod address ranges; `pod_gc_controller`: pods that nobody looks after any more
"""
