"""`understudy etcd`: the store alone, for etcd's own clients.

A real adapter: it handles the process's environment and folders. Flags and variables are etcd's.
"""

import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import complain, garbage
from .extra import want_extra
from .folders import make_folder, owners
from .foreground import serve_until_stopped

if TYPE_CHECKING:
    from understudy.raftstore.wal.folder import Identity

log = logging.getLogger("understudy.etcd")

STOP_SECONDS_MAX = 5.0
"""A stop that takes longer is cut off."""

F = TypeVar("F", bound=Callable[..., Any])


def _flag(name: str, **attributes: Any) -> Callable[[F], F]:
    attributes.setdefault("show_default", attributes.get("default") != "")
    return click.option(f"--{name}", **attributes)


def _switch(name: str, help_text: str) -> Callable[[F], F]:
    # Go's flags: `--x`, `--x=true` and `--x=false`.
    return click.option(
        f"--{name}", type=click.BOOL, is_flag=False, flag_value="true", default=False, help=help_text
    )


@click.command(context_settings={"auto_envvar_prefix": "ETCD"})
@_flag("name", default="default", help="Name of this member.")
@_flag("data-dir", default="", help="Folder of the logs and snapshots; NAME.etcd unless given.")
@_flag("members", type=click.IntRange(1, 9), default=3, help="Members that this one process runs.")
@_flag("listen-client-urls", default="http://localhost:2379", help="Where clients are served.")
@_flag("advertise-client-urls", default="", help="Where clients are told to come.")
@_flag("listen-peer-urls", default="http://localhost:2380", help="Where other members are served.")
@_flag("initial-advertise-peer-urls", default="http://localhost:2380", help="Where other members come.")
@_flag("initial-cluster", default="", help="NAME=URL,... of all members; only this one's unless given.")
@_flag("initial-cluster-state", default="new", help="new or existing.")
@_flag("initial-cluster-token", default="etcd-cluster", help="Names a new cluster: others refuse its folder.")
@_flag("heartbeat-interval", type=int, default=None, help="Milliseconds between heartbeats.")
@_flag("election-timeout", type=int, default=None, help="Milliseconds without a leader before an election.")
@_flag("snapshot-count", type=int, default=None, help="Entries of the log between two snapshots.")
@_flag("max-request-bytes", type=click.IntRange(1), default=1_572_864, help="The largest request.")
@_flag("max-txn-ops", type=click.IntRange(1), default=128, help="Operations of one transaction.")
@_flag("quota-backend-bytes", type=int, default=0, help="Room for keys and values; 0: 2 GiB, -1: no limit.")
@_flag("bcrypt-cost", type=int, default=10, help="Cost of hashing passwords.")
@_flag("auth-token-ttl", type=click.IntRange(1), default=300, help="Seconds until an unused token is void.")
@_flag("auto-compaction-mode", default="periodic", help="periodic or revision.")
@_flag("auto-compaction-retention", default="0", help="How long, or how many revisions, to keep; 0 for all.")
@_flag("grpc-keepalive-interval", default="2h", help="A client silent for so long is asked for a sign ...")
@_flag("grpc-keepalive-timeout", default="20s", help="... and is gone if none comes within so long.")
@_flag(
    "experimental-watch-progress-notify-interval",
    default="10m",
    help="A quiet watch that asks for it hears so often how far it is.",
)
@_flag("cert-file", default="", help="PEM certificate for clients.")
@_flag("key-file", default="", help="PEM key for clients.")
@_flag("trusted-ca-file", default="", help="PEM certificates that sign clients': only those are served.")
@_flag("peer-cert-file", default="", help="PEM certificate among members; its name is the member's.")
@_flag("peer-key-file", default="", help="PEM key among members.")
@_flag("peer-trusted-ca-file", default="", help="PEM certificates that sign members' certificates.")
@_switch("client-cert-auth", "Who comes without a token is the user of its certificate's common name.")
@_switch("peer-client-cert-auth", "Members want one another's certificates: always, where they have any.")
@_flag("log-level", default="info", help="debug, info, warn or error.")
@click.option("--logger", default="zap", hidden=True)
def etcd(log_level: str, logger: str, **flags: Any) -> int:
    """Serve the etcd v3 API until Ctrl-C.

    Without more this is a whole cluster: one process with three members, each with its log in a folder of its
    own. With --initial-cluster it is one member of several processes, as etcd is.

    Every flag can be given as a variable of the environment too, as etcd reads it: ETCD_DATA_DIR for
    --data-dir. A flag overrides its variable.
    """
    garbage.put_off()
    from understudy.raftstore.etcd.configuration import EtcdConfig, unknown_variables

    levels = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR"}
    if log_level not in levels:
        return complain(f"--log-level is {log_level!r}", "it is debug, info, warn or error")
    logging.basicConfig(level=levels[log_level], format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in unknown_variables(
        os.environ, {f"ETCD_{flag.upper()}" for flag in (*flags, "log_level", "logger")}
    ):
        log.warning("unrecognized environment variable %s", name)
    config = EtcdConfig(**flags)
    return serve_until_stopped(lambda: _serve(config), STOP_SECONDS_MAX)


async def _serve(config: Any) -> None:
    want_extra("understudy etcd")
    import trio
    from attrs import evolve

    from understudy.actors import ActorSystem, RealWorld
    from understudy.actors.real_disk import RealDisk
    from understudy.raftstore import raft_group
    from understudy.raftstore.etcd.listening import bind, server_tls
    from understudy.raftstore.etcd.node import start_node
    from understudy.raftstore.etcd.server import EtcdFront, publish, until_led, until_over, until_published
    from understudy.raftstore.etcd.service import ServiceOptions
    from understudy.raftstore.wal.logs import DiskLogs, cluster_id

    config.check()
    folder = Path(config.folder)
    make_folder(folder)
    tls = None
    if config.cert_file:
        tls = server_tls(config.cert_file, config.key_file, config.trusted_ca_file)
        for url in config.client_urls():
            if url.scheme == "http":
                log.warning("%s is not https: who comes there shows and sees no certificate", url)
    bound = [await bind(url, tls, "--listen-client-urls") for url in config.client_urls()]
    _check_members(config, folder)
    owner = await _owner(config, folder)
    cluster = owner.cluster if owner is not None else cluster_id(config.initial_cluster_token)
    logs = DiskLogs(folder="", disk=RealDisk(folder), cluster=cluster)
    keepalive_seconds, keepalive_timeout_seconds = config.keepalive_seconds()
    options = ServiceOptions(
        keepalive_seconds=keepalive_seconds,
        keepalive_timeout_seconds=keepalive_timeout_seconds,
        cluster_id=cluster,
        progress_seconds=config.progress_seconds(),
        max_request_bytes=config.max_request_bytes,
        certificates_name_users=config.client_cert_auth,
    )
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(RealWorld.open())
        system = await stack.enter_async_context(ActorSystem.open(world))
        if config.alone:
            store = system.spawn(raft_group(config.group_options(), disk_logs=logs), "etcd")
            await until_led(world, store, f"--data-dir {folder}")
            await publish(store, config)
            what = "1 member" if config.members == 1 else f"{config.members} members"
        else:
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            store, cluster = await start_node(config, stack, nursery, system, logs, owner)
            options = evolve(options, cluster_id=cluster)
            others = ", ".join(f"{each.name} ({each.peer_urls[0]})" for each in config.founders())
            await until_led(world, store, f"--data-dir {folder}", f"a majority of {others}")
            await until_published(world, store, config)
            what = config.name
        system.spawn(lambda: EtcdFront(store, bound, options, config.compactor()), "front")
        for each in bound:
            click.echo(f"ready to serve client requests on {each.url} ({what} in {folder})")
        ca = " --cacert=CA.pem" if config.cert_file else ""
        click.echo(f"try: ETCDCTL_API=3 etcdctl --endpoints={bound[0].url}{ca} member list -w table")
        garbage.settle()
        if not config.alone:
            await until_over(world, store, f"--data-dir {folder}")
        await trio.sleep_forever()


async def _owner(config: Any, folder: Path) -> "Identity | None":
    """Whose logs are in a folder already: the first of them. Raises StartError: another cluster's, or
    somebody has it open."""
    from understudy.actors.startup import StartError
    from understudy.raftstore.wal.logs import has_token

    found = await owners(folder)
    token = config.initial_cluster_token
    for owner in found:
        # Who joined a cluster was never told its token.
        if not has_token(owner.cluster, token) and (config.alone or config.initial_cluster_state == "new"):
            raise StartError(
                f"--data-dir: {folder}: the folder belongs to {owner}, which began with another "
                f"--initial-cluster-token than {token!r}",
                "give that token, or name another folder or an empty one",
            )
    return found[0] if found else None


def _check_members(config: Any, folder: Path) -> None:
    """More or fewer members than there were would be another group. Raises StartError."""
    from understudy.actors.startup import StartError

    names = [name.removeprefix("member-") for name in os.listdir(folder) if name.startswith("member-")]
    found = sorted(int(number) for number in names if number.isdecimal())
    if config.alone and found and found != list(range(1, config.members + 1)):
        hint = f"say --members {len(found)}, or name another folder"
        if found != list(range(1, len(found) + 1)):
            hint = "give --initial-cluster as before, or name another folder"
        there = ", ".join(map(str, found))
        raise StartError(f"--members is {config.members}, and {folder} has member {there}", hint)
    if not config.alone and len(found) > 1:
        raise StartError(
            f"--initial-cluster makes this one member of several, and {folder} has {len(found)} of them",
            "leave --initial-cluster away as before, or name another folder",
        )
