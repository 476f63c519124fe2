"""The StatefulSet controller: pods with an identity that outlives them.

- `identity`: the pod of an ordinal: its name, its claims, its revision (pure)
- `plan`: what to do next (pure)
- `controller`: the actor

Not done: `persistentVolumeClaimRetentionPolicy` other than Retain, and `maxUnavailable` other than 1.
"""
