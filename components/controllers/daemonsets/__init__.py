"""The DaemonSet controller: one pod on every node that fits.

- `placement`: which nodes a pod template fits (pure)
- `plan`: what to create and delete (pure)
- `controller`: the actor
"""
