"""The Deployment controller: rolls ReplicaSets from one pod template to the next.

- `template_hash`: the name of a template
- `replica_sets`: which ReplicaSet is new, which are old, and the annotations that they carry
- `scaling`: how many replicas each may have, by strategy
- `progress`: the status and its conditions
- `controller`: the actor
"""
