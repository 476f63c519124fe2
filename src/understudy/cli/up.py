"""`understudy up`: a cluster in the foreground.

A real adapter: it looks at the process's clock and limits.
"""

import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import click

from . import garbage
from .backing import store_options
from .folders import owners
from .foreground import serve_until_stopped

STOP_SECONDS_MAX = 2.0
"""A stop that takes longer is cut off."""

SEED_HELP = (
    "Fixes generated names, UIDs and jitter, so that runs are easier to compare. It does not fix the"
    " interleaving of components, clients and the network: only the simulation does."
)

CA_HELP = "PEM certificates that sign the certificate of the etcd of --store; the system's unless given."


@click.command()
@click.option("--nodes", type=click.IntRange(0, 1000), default=3, show_default=True, help="Number of nodes.")
@click.option(
    "--bind",
    metavar="HOST:PORT",
    default="127.0.0.1:6443",
    show_default=True,
    help="Where the API server listens; port 0 picks a free one.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    default=Path(".understudy/kubeconfig"),
    show_default=True,
    help="Where the administrator's kubeconfig is written, readable by its owner only.",
)
@click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=None,
    help="Keep everything in this folder; the next cluster with it goes on. Without it all is in memory.",
)
@click.option(
    "--store",
    metavar="etcd=URL[,URL]",
    default=None,
    help="Keep everything in a real etcd (3.4.31, 3.5.13 or newer) instead of members in this process.",
)
@click.option("--etcd-cafile", metavar="FILE", default="", help=CA_HELP)
@click.option("--etcd-certfile", metavar="FILE", default="", help="PEM certificate for that etcd.")
@click.option("--etcd-keyfile", metavar="FILE", default="", help="PEM key of that certificate.")
@click.option("--seed", type=int, default=None, metavar="N", help=SEED_HELP)
@click.option(
    "--inspect",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=Path(".understudy/actors.sock"),
    default=None,
    metavar="PATH",
    help="Serve a read-only picture of the actors on a Unix socket, for `understudy actors`.",
)
def up(
    nodes: int,
    bind: str,
    kubeconfig: Path,
    seed: int | None,
    inspect: Path | None,
    data_dir: Path | None,
    store: str | None,
    etcd_cafile: str,
    etcd_certfile: str,
    etcd_keyfile: str,
) -> int:
    """Start a cluster and keep it running until Ctrl-C."""
    garbage.put_off()
    from understudy.actors.startup import StartError
    from understudy.components.client.kubeconfig import check_writable

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    _raise_file_limit()

    async def serve() -> None:
        if store is not None and data_dir is not None:
            raise StartError(
                "--store and --data-dir exclude each other", "the etcd of --store keeps everything"
            )
        files = (etcd_cafile, etcd_certfile, etcd_keyfile)
        if store is None and any(files):
            raise StartError(
                "--etcd-cafile, --etcd-certfile and --etcd-keyfile are for --store etcd=https://..."
            )
        if data_dir is not None:
            await _check_folder(data_dir)
        check_writable(kubeconfig)
        from understudy.components.cluster import Cluster

        cluster = Cluster(
            nodes=nodes,
            bind=bind,
            seed=seed,
            options=store_options(store, *files) if store is not None else None,
            data_dir=data_dir,
            on_progress=_print_component,
        )
        await _serve(cluster, kubeconfig, inspect)

    return serve_until_stopped(serve, STOP_SECONDS_MAX)


async def _check_folder(folder: Path) -> None:
    """A cluster's store beside another one would begin empty. Raises StartError."""
    from understudy.actors.startup import StartError
    from understudy.components.cluster import CLUSTER_TOKEN
    from understudy.raftstore.wal.logs import cluster_id

    for owner in await owners(folder):
        if owner.cluster != cluster_id(CLUSTER_TOKEN):
            raise StartError(
                f"--data-dir: {folder}: the folder belongs to {owner}, which is not of `understudy up`",
                "name another one, or an empty one; "
                "to run on that store, start `understudy etcd` on it, and give --store",
            )


async def _serve(unopened: Any, kubeconfig: Path, inspect: Path | None) -> None:
    import trio

    from understudy.components.client.kubeconfig import write_kubeconfig

    async with (
        _inspection(inspect) as serve_inspection,
        unopened as cluster,
        trio.open_nursery() as nursery,
    ):
        if serve_inspection is not None:
            nursery.start_soon(serve_inspection, cluster.system)
        write_kubeconfig(kubeconfig, cluster.kubeconfig)
        _print_ready(kubeconfig, cluster)
        garbage.settle()
        await trio.sleep_forever()


@asynccontextmanager
async def _inspection(path: Path | None) -> AsyncIterator[Any]:
    """The socket of `--inspect`, bound before anything starts; yields what serves a system there, or None."""
    if path is None:
        yield None
        return
    from functools import partial

    from understudy.actors.observe.serving import inspection_socket, serve_inspection

    with ExitStack() as stack:
        listener = stack.enter_context(inspection_socket(path))
        yield partial(serve_inspection, listener)


def _print_component(component: str, detail: str) -> None:
    click.echo(f"  {component:24} {detail}".rstrip())


def _print_ready(kubeconfig: Path, cluster: Any) -> None:
    since_start = _process_seconds()
    within = f" ({since_start * 1000:.0f} ms since the process started)" if since_start else ""
    kubectl = f"kubectl --kubeconfig {kubeconfig}"
    lines = [
        f"ready in {cluster.ready_seconds * 1000:.0f} ms{within}",
        f"kubeconfig: {kubeconfig}",
        "",
        "try:",
        f"  {kubectl} get nodes",
        f"  {kubectl} create deployment my-app --image=nginx --replicas=2",
        f"  {kubectl} get deployments,pods -o wide",
        "",
        "Ctrl-C stops the cluster.",
    ]
    click.echo("\n".join(lines))


def _process_seconds() -> float | None:
    """How long this process runs, where the system tells."""
    try:
        # proc(5): field 22 is the start in clock ticks since boot; the name in field 2 may hold spaces.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError):
        return None


def _raise_file_limit() -> None:
    """Every watch of every client is an open file: take what the system allows."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
