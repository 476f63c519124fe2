"""What every namespace gets: the `default` service account, and the cluster's CA certificates."""
