"""The boundaries of the cluster: what lies beyond them is a fake in simulation and a real system elsewhere.

`cri`          container runtime, mirrors `runtime.v1` of the Kubernetes CRI
`cni`          pod network plugin, mirrors ADD, DEL and CHECK of the CNI specification 1.0
`podnet`       the network that pods and nodes talk over: HTTP, TCP and gRPC health to an address
`kubelet_api`  what a node serves to the API server: container logs
`dataplane`    service dataplane: one desired set of rules per node, replaced as a whole
`name_server`  the cluster's DNS, as resolvers ask it
`dns_upstream` name servers beyond the cluster
`ipam`         address blocks for nodes and addresses for sandboxes: what network plugins have in common

Each module but `ipam` holds only messages: frozen data that a fake and a real adapter both understand.
"""
