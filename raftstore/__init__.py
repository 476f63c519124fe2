"""etcd: a Raft group of actors under an MVCC key-value store."""
