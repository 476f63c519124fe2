"""API machinery: the pure rules that every API object obeys."""
