"""kube-scheduler: pods without a node get one, or a reason why not.

`scheduler`    the actor: informers in, bindings out
`algorithm`    one scheduling cycle: filter, score, pick
`preemption`   whom to evict for a pod of higher priority
`queue`        which pod is tried next, and when again
`cache`        nodes with the pods on them, kept up incrementally
`framework`    extension points, verdicts, cluster events
`plugins`      the default profile
`decision`     what was decided and why, and its wording; `explanation` as a message
`pod_info`, `requirements`, `resources`  pods, selectors and quantities parsed once
"""
