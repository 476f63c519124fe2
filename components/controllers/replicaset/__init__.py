"""The ReplicaSet controller: keeps as many pods as a ReplicaSet asks for."""
