"""kube-proxy: Services and EndpointSlices become the dataplane rules of one node.

`rules`     what the dataplane of a node should do, pure and incremental by Service
`balancer`  a user-space dataplane: which endpoint a new connection goes to
"""
