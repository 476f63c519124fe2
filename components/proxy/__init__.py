"""kube-proxy: Services and EndpointSlices become the dataplane rules of one node.

`rules`      what the dataplane of a node should do, pure and incremental by Service
`kube_proxy` the actor that keeps a node's dataplane so
`balancer`   which endpoint a new connection goes to
`user_space` the actor of a user-space dataplane
"""
