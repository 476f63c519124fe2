"""etcd's flags: what they make, and what is refused with which advice."""

import pytest

from understudy.actors.startup import StartError
from understudy.raftstore.etcd.autocompaction import PeriodicCompactor, RevisionCompactor, parse_duration
from understudy.raftstore.etcd.configuration import EtcdConfig, parse_cluster
from understudy.raftstore.etcd.listening import Url, parse_url


def test_defaults_are_etcds() -> None:
    config = EtcdConfig()
    config.check()
    assert config.folder == "default.etcd"
    assert config.client_urls() == [Url("http", "localhost", 2379)] == config.advertised_urls()
    assert config.group_options().max_request_bytes == 1_572_864
    assert config.compactor() is None


def test_timeouts_are_drawn_between_once_and_twice_what_was_asked_for() -> None:
    raft = EtcdConfig(heartbeat_interval=50, election_timeout=600).group_options().member.raft
    assert (raft.heartbeat_ms, raft.election_timeout_min_ms, raft.election_timeout_max_ms) == (50, 600, 1200)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"listen_client_urls": "localhost:2379"}, "must begin with http:// or https://"),
        ({"listen_client_urls": "http://localhost"}, "a scheme, a host and a port"),
        ({"listen_client_urls": "http://localhost:99999"}, "is no URL"),
        ({"listen_client_urls": ""}, "--listen-client-urls is empty"),
        ({"advertise_client_urls": "ftp://h:1"}, "--advertise-client-urls"),
        ({"election_timeout": 400}, "at least as 5 times"),
        ({"election_timeout": 60_000}, "too long"),
        ({"initial_cluster": "a=http://h:1"}, "does not name this member"),
        ({"initial_cluster": "default"}, "is not NAME=URL"),
        ({"initial_cluster_state": "old"}, "new or existing"),
        ({"bcrypt_cost": 3}, "from 4 to 31"),
        ({"peer_cert_file": "c.pem"}, "go together"),
        ({"cert_file": "c.pem"}, "go together"),
        ({"trusted_ca_file": "c.pem"}, "everybody would be served"),
        ({"client_cert_auth": True}, "everybody would be served"),
        ({"client_cert_auth": True, "cert_file": "c.pem", "key_file": "c.key"}, "give --trusted-ca-file"),
        ({"peer_client_cert_auth": True}, "needs --peer-cert-file"),
        ({"heartbeat_interval": 0}, "--heartbeat-interval must be >0"),
        ({"snapshot_count": 0}, "--snapshot-count is 0"),
        ({"listen_peer_urls": "http://h:1,http://h:2"}, "names several"),
        ({"initial_cluster_state": "existing"}, "needs --initial-cluster"),
        ({"initial_cluster": "default=http://h:1", "members": 5}, "exclude each other"),
        (
            {"initial_cluster": "default=http://h:1", "initial_advertise_peer_urls": "http://h:2"},
            "has default at http://h:1, and --initial-advertise-peer-urls is http://h:2",
        ),
        ({"experimental_watch_progress_notify_interval": "0s"}, "above 0"),
        ({"experimental_watch_progress_notify_interval": "soon"}, "no duration"),
        ({"auto_compaction_mode": "daily"}, "neither periodic nor revision"),
        ({"grpc_keepalive_interval": "often"}, "no duration"),
        ({"grpc_keepalive_timeout": "0s"}, "above 0"),
        ({"auto_compaction_retention": "soon"}, "no duration"),
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, object], complaint: str) -> None:
    if "election_timeout" in flags:
        flags = {"heartbeat_interval": 100, **flags}
    with pytest.raises(StartError, match=complaint):
        EtcdConfig(**flags).check()  # type: ignore[arg-type]


def test_a_cluster_may_give_a_member_several_urls() -> None:
    found = parse_cluster("a=http://h:1,b=http://h:2,a=http://i:1")
    assert {name: [str(url) for url in urls] for name, urls in found.items()} == {
        "a": ["http://h:1", "http://i:1"],
        "b": ["http://h:2"],
    }


def test_limits_reach_the_state_machine() -> None:
    config = EtcdConfig(max_txn_ops=7, quota_backend_bytes=1000, bcrypt_cost=4, auth_token_ttl=9)
    store = config.group_options().member.store
    limits = (store.max_txn_operations, store.quota_bytes, store.bcrypt_cost, store.token_ttl_s)
    assert limits == (7, 1000, 4, 9.0)
    assert EtcdConfig(quota_backend_bytes=-1).group_options().member.store.quota_bytes == 0
    assert EtcdConfig().group_options().member.store.quota_bytes == 2 << 30


def test_urls_are_written_as_they_are_read() -> None:
    for text in ("http://127.0.0.1:2379", "https://[::1]:2379"):
        assert str(parse_url(text, "")) == text


@pytest.mark.parametrize(("text", "seconds"), [("1h30m", 5400.0), ("90s", 90.0), ("0.5h", 1800.0)])
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "5x", "1h x"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


def test_revisions_are_kept_by_number() -> None:
    compactor = RevisionCompactor(100)
    assert [compactor.look(0.0, revision) for revision in (50, 100, 150, 150, 180)] == [0, 0, 50, 0, 80]


def test_revisions_are_kept_by_age() -> None:
    compactor = PeriodicCompactor(600.0)
    compacted = []
    for look in range(60):
        now = look * compactor.look_seconds
        target = compactor.look(now, 1 + int(now))
        if target:
            compacted.append((now, target))
    # Once a period, up to what was the revision a period ago.
    assert compacted == [(now, 1 + int(now) - 600) for now in (600.0, 1200.0, 1800.0, 2400.0, 3000.0)]
