"""`understudy up --store etcd=URL`: a cluster on an etcd, real or ours, over TLS where its URLs say https."""

from typing import Any

from .extra import want_extra


def store_options(text: str, ca_file: str, cert_file: str, key_file: str) -> Any:
    """The cluster's options with the store that was asked for.

    Args:
        text: what `--store` says.
        ca_file, cert_file, key_file: of `--etcd-cafile`, `--etcd-certfile` and `--etcd-keyfile`; "" for none.

    Raises:
        StartError: it is not `etcd=URL`, a file cannot be used, or what that needs is not installed.
    """
    from understudy.actors.startup import StartError

    kind, _, urls = text.partition("=")
    if kind != "etcd" or not urls:
        raise StartError(f"--store is {text!r}", "for example --store etcd=http://127.0.0.1:2379")
    want_extra("--store etcd=...")
    from understudy.raftstore.etcd.client import GrpcChannel, client_tls
    from understudy.raftstore.etcd.configuration import parse_urls
    from understudy.raftstore.etcd.remote_store import remote_store

    if bool(cert_file) != bool(key_file):
        raise StartError("--etcd-certfile and --etcd-keyfile go together", "give both, or neither")
    parsed = parse_urls(urls, "--store")
    secured = any(url.scheme == "https" for url in parsed)
    if (ca_file or cert_file) and not secured:
        raise StartError(
            "--etcd-cafile, --etcd-certfile and --etcd-keyfile are for https",
            f"write --store {text.replace('http://', 'https://')}, or leave them away",
        )
    tls = client_tls(ca_file, cert_file, key_file) if secured else None
    from understudy.components.cluster import ClusterOptions

    if tls is None:
        return ClusterOptions(store=remote_store(lambda: GrpcChannel(parsed)), store_name=urls)
    return ClusterOptions(
        store=remote_store(lambda: GrpcChannel(parsed, tls)),
        store_name=urls,
        store_advice="is it running there? --etcd-cafile names who vouches for it, --etcd-certfile and "
        "--etcd-keyfile say who asks",
    )
