"""What `understudy etcd` is asked to be: etcd's flags, checked and put together. Pure.

Source of names, defaults and rules: etcd 3.5, "Configuration flags".
"""

from collections.abc import Mapping
from typing import Final

from attrs import evolve, frozen

from understudy.actors.startup import StartError
from understudy.raftstore.options import GroupOptions, MemberOptions, RaftOptions, StoreOptions
from understudy.raftstore.storage.cluster import ClusterMember

from .autocompaction import Compactor, compactor, parse_duration
from .listening import Url, parse_url

MEMBERS: Final = 3
"""Of a cluster that is one process."""
DEFAULT_CLIENT_URL: Final = "http://localhost:2379"
DEFAULT_PEER_URL: Final = "http://localhost:2380"
ELECTION_MS_MAX: Final = 50_000
HEARTBEATS_PER_ELECTION: Final = 5


@frozen
class EtcdConfig:
    """The flags, under their own names."""

    name: str = "default"
    data_dir: str = ""
    """Empty: `NAME.etcd` in the working folder."""
    members: int = MEMBERS
    listen_client_urls: str = DEFAULT_CLIENT_URL
    advertise_client_urls: str = ""
    listen_peer_urls: str = DEFAULT_PEER_URL
    initial_advertise_peer_urls: str = DEFAULT_PEER_URL
    initial_cluster: str = ""
    initial_cluster_state: str = "new"
    initial_cluster_token: str = "etcd-cluster"
    heartbeat_interval: int | None = None
    """Milliseconds, as the next; None for ours, which replace a dead leader within a second."""
    election_timeout: int | None = None
    snapshot_count: int | None = None
    max_request_bytes: int = GroupOptions().max_request_bytes
    max_txn_ops: int = StoreOptions().max_txn_operations
    quota_backend_bytes: int = 0
    """0 is the default quota, below 0 none."""
    bcrypt_cost: int = StoreOptions().bcrypt_cost
    auth_token_ttl: int = 300
    """Seconds."""
    auto_compaction_mode: str = "periodic"
    auto_compaction_retention: str = "0"
    grpc_keepalive_interval: str = "2h"
    """As Go writes durations."""
    grpc_keepalive_timeout: str = "20s"
    experimental_watch_progress_notify_interval: str = "10m"
    cert_file: str = ""
    key_file: str = ""
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    peer_cert_file: str = ""
    peer_key_file: str = ""
    peer_trusted_ca_file: str = ""
    peer_client_cert_auth: bool = False
    """Members always want one another's certificates, where they have any."""

    @property
    def alone(self) -> bool:
        """Whether this process runs all members, rather than one of several."""
        return not self.initial_cluster

    def founders(self) -> tuple[ClusterMember, ...]:
        """The members of a new cluster of processes, numbered in the order of their names."""
        return tuple(
            ClusterMember(number, name, tuple(str(url) for url in urls))
            for number, (name, urls) in enumerate(sorted(self.cluster().items()), 1)
        )

    @property
    def folder(self) -> str:
        """Where everything is kept."""
        return self.data_dir or f"{self.name}.etcd"

    def client_urls(self) -> list[Url]:
        """Where clients are served. Raises StartError."""
        return parse_urls(self.listen_client_urls, "--listen-client-urls")

    def advertised_urls(self) -> list[Url]:
        """Where clients are told to come. Raises StartError."""
        if not self.advertise_client_urls:
            return self.client_urls()
        return parse_urls(self.advertise_client_urls, "--advertise-client-urls")

    def cluster(self) -> dict[str, list[Url]]:
        """Peer URLs by member; this one's alone unless `--initial-cluster` says more. Raises
        StartError."""
        own = parse_urls(self.initial_advertise_peer_urls, "--initial-advertise-peer-urls")
        if not self.initial_cluster:
            return {self.name: own}
        found = parse_cluster(self.initial_cluster)
        if self.name not in found:
            raise StartError(
                f"--initial-cluster does not name this member, {self.name!r}",
                f"it names {', '.join(sorted(found))}: give --name, or add {self.name}={own[0]}",
            )
        if self.initial_advertise_peer_urls != DEFAULT_PEER_URL and set(found[self.name]) != set(own):
            raise StartError(
                f"--initial-cluster has {self.name} at {_listed(found[self.name])}, and "
                f"--initial-advertise-peer-urls is {_listed(own)}",
                "others come where --initial-cluster says: give the same to both",
            )
        return found

    def compactor(self) -> Compactor | None:
        """Raises StartError."""
        try:
            return compactor(self.auto_compaction_mode, self.auto_compaction_retention)
        except ValueError as error:
            raise StartError(
                f"--auto-compaction-mode, --auto-compaction-retention: {error}",
                "for example periodic and 1h, or revision and 1000",
            ) from None

    def keepalive_seconds(self) -> tuple[float, float]:
        """When a silent client is asked whether it is there, and for how long. Raises StartError."""
        try:
            interval, timeout = map(
                parse_duration, (self.grpc_keepalive_interval, self.grpc_keepalive_timeout)
            )
        except ValueError as error:
            raise StartError(
                f"--grpc-keepalive-interval, --grpc-keepalive-timeout: {error}", "for example 2h and 20s"
            ) from None
        if not interval or not timeout:
            raise StartError("--grpc-keepalive-interval and --grpc-keepalive-timeout are above 0")
        return interval, timeout

    def progress_seconds(self) -> float:
        """After how long without events a watch that asks for it hears how far it is. Raises StartError."""
        flag = "--experimental-watch-progress-notify-interval"
        try:
            seconds = parse_duration(self.experimental_watch_progress_notify_interval)
        except ValueError as error:
            raise StartError(f"{flag}: {error}", "for example 10m") from None
        if not seconds:
            raise StartError(f"{flag} is above 0")
        return seconds

    def group_options(self) -> GroupOptions:
        """The knobs of the group. Raises StartError."""
        member = MemberOptions(raft=self._raft_options(), store=self._store_options())
        if self.snapshot_count is not None and self.snapshot_count < 1:
            raise StartError(f"--snapshot-count is {self.snapshot_count}", "it is 1 or more")
        if self.snapshot_count is not None:
            member = evolve(member, snapshot_entries=self.snapshot_count)
        return GroupOptions(members=self.members, member=member, max_request_bytes=self.max_request_bytes)

    def _store_options(self) -> StoreOptions:
        if not 4 <= self.bcrypt_cost <= 31:
            raise StartError(f"--bcrypt-cost is {self.bcrypt_cost}", "it is from 4 to 31")
        quota = self.quota_backend_bytes or StoreOptions().quota_bytes
        return StoreOptions(
            max_txn_operations=self.max_txn_ops,
            quota_bytes=max(0, quota),
            bcrypt_cost=self.bcrypt_cost,
            token_ttl_s=float(self.auth_token_ttl),
        )

    def _raft_options(self) -> RaftOptions:
        defaults = RaftOptions()
        for flag, given in (
            ("--heartbeat-interval", self.heartbeat_interval),
            ("--election-timeout", self.election_timeout),
        ):
            if given is not None and given < 1:
                raise StartError(f"{flag} must be >0 (set to {given}ms)")
        if self.heartbeat_interval is None and self.election_timeout is None:
            return defaults
        heartbeat = self.heartbeat_interval or defaults.heartbeat_ms
        election = self.election_timeout or max(
            defaults.election_timeout_min_ms, HEARTBEATS_PER_ELECTION * heartbeat
        )
        if election < HEARTBEATS_PER_ELECTION * heartbeat:
            raise StartError(
                f"--election-timeout[{election}ms] should be at least as 5 times as "
                f"--heartbeat-interval[{heartbeat}ms]"
            )
        if election > ELECTION_MS_MAX:
            raise StartError(
                f"--election-timeout[{election}ms] is too long, and should be set less than "
                f"{ELECTION_MS_MAX}ms"
            )
        # Drawn between once and twice the timeout, as etcd does it.
        return evolve(
            defaults,
            heartbeat_ms=heartbeat,
            election_timeout_min_ms=election,
            election_timeout_max_ms=2 * election,
        )

    def check(self) -> None:
        """Refuse what cannot be. Raises StartError."""
        self.client_urls()
        self.advertised_urls()
        if len(parse_urls(self.listen_peer_urls, "--listen-peer-urls")) > 1:
            raise StartError(
                "--listen-peer-urls names several", "name one; 0.0.0.0 is every address of this machine"
            )
        self.cluster()
        self._check_processes()
        if self.initial_cluster_state not in ("new", "existing"):
            raise StartError(
                f"--initial-cluster-state is {self.initial_cluster_state!r}", "it is new or existing"
            )
        self._check_certificates()
        self.group_options()
        self.compactor()
        self.keepalive_seconds()
        self.progress_seconds()

    def _check_processes(self) -> None:
        """Refuse flags of one process with those of several. Raises StartError."""
        if self.alone and self.initial_cluster_state == "existing":
            raise StartError(
                "--initial-cluster-state existing needs --initial-cluster",
                "it names the members that are there, and this one: `etcdctl member add` prints it",
            )
        if not self.alone and self.members != MEMBERS:
            raise StartError(
                "--members and --initial-cluster exclude each other",
                "with --initial-cluster this process is one member",
            )

    def _check_certificates(self) -> None:
        """Raises StartError."""
        if bool(self.cert_file) != bool(self.key_file):
            raise StartError("--cert-file and --key-file go together", "give both, or neither")
        if (self.client_cert_auth or self.trusted_ca_file) and not self.cert_file:
            raise StartError(
                "--client-cert-auth and --trusted-ca-file need --cert-file and --key-file",
                "without TLS no client shows a certificate, and everybody would be served",
            )
        if self.client_cert_auth and not self.trusted_ca_file:
            raise StartError("--client-cert-auth needs to know whom to trust", "give --trusted-ca-file")
        peer_files = (self.peer_cert_file, self.peer_key_file, self.peer_trusted_ca_file)
        if any(peer_files) and not all(peer_files):
            raise StartError(
                "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file go together",
                "members know one another by their certificates: give all three, or none",
            )
        if self.peer_client_cert_auth and not self.peer_cert_file:
            raise StartError(
                "--peer-client-cert-auth needs --peer-cert-file, --peer-key-file and --peer-trusted-ca-file"
            )


def parse_urls(text: str, what: str) -> list[Url]:
    """URLs between commas. Raises StartError."""
    found = [parse_url(part, what) for part in text.split(",") if part.strip()]
    if not found:
        raise StartError(f"{what} is empty", "for example http://127.0.0.1:2379")
    return found


def parse_cluster(text: str) -> dict[str, list[Url]]:
    """`NAME=URL,NAME=URL`; one name may come with several URLs. Raises StartError."""
    found: dict[str, list[Url]] = {}
    for part in text.split(","):
        name, equals, url = part.strip().partition("=")
        if not name or not equals:
            raise StartError(
                f"--initial-cluster: {part!r} is not NAME=URL", "for example a=http://127.0.0.1:2380"
            )
        found.setdefault(name, []).append(parse_url(url, "--initial-cluster"))
    return found


def _listed(urls: list[Url]) -> str:
    return ",".join(str(url) for url in urls)


def unknown_variables(environment: Mapping[str, str], known: set[str]) -> list[str]:
    """Variables that begin as etcd's do and mean nothing here, sorted."""
    return sorted(name for name in environment if name.startswith("ETCD_") and name not in known)
