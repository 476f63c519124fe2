"""Understudy: a Kubernetes made of Trio actors that stands in for the real one."""
