"""Nodes: the same refs across processes, over TCP, Unix sockets or simulated links."""
