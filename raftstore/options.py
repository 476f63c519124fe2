"""The knobs of a Raft member, with their defaults and why they are so."""

from attrs import field, frozen
from attrs.validators import gt, instance_of


@frozen
class RaftOptions:
    """Times in milliseconds, sizes in bytes."""

    heartbeat_ms: int = field(default=100, validator=[instance_of(int), gt(0)])
    """A leader is heard at least so often."""
    election_timeout_min_ms: int = 400
    """Nobody stands for election, and nobody votes against a leader, that was heard within this time. A
    heartbeat that was just missed and a pause of everybody of 250 ms stay below it."""
    election_timeout_max_ms: int = 700
    """A follower stands after a time drawn between the two (§5.2): a dead leader is replaced within a second.
    """
    candidate_timeout_min_ms: int = 150
    """A candidate tries again after a time drawn from here ..."""
    candidate_timeout_max_ms: int = 450
    """... to here. There is no leader then who could be disturbed, so it need not be longer than many round
    trips.
    """
    stall_ms: int = 100
    """An election timer that fires later than this tells that this process was held up, not that the leader
    is silent: the waiting messages are read first and the time is drawn again, at most `max_excuses` times
    running."""
    max_excuses: int = 2
    pre_vote: bool = True
    """Ask whether one could win before raising the term, so that nobody disturbs on his return (thesis §9.6).
    Without it and `check_quorum`, a member that was removed while it was away can hold up elections (§6)."""
    check_quorum: bool = True
    """A leader looks every `election_timeout_max_ms` whom it has heard since, and steps down without a
    majority (thesis §6.2). A look that comes late is excused, as an election timer is."""
    lease_read_clock_drift: float | None = None
    """Answer reads at a leader without asking the others while they have promised it not to elect anybody
    (thesis §6.4.1). It is the bound on which that rests: no member's clock goes so many times as fast as
    another's (1.0 or more). Where a clock breaks the bound, reads may be stale. None: ask every time."""
    snapshot_retry_ms: int = field(default=2_000, validator=gt(0))
    """A snapshot that was not answered within this time is sent again."""
    max_append_bytes: int = 1 << 20
    """Entries of one message; a single entry may be larger."""
    max_inflight_messages: int = field(default=256, validator=gt(0))
    max_inflight_bytes: int = field(default=16 << 20, validator=gt(0))
    """Sent to one follower and not acknowledged; the last message may pass the limit on bytes."""
    max_uncommitted_bytes: int = 64 << 20
    """Beyond it a leader refuses proposals: they come faster than a majority can take them."""
    max_apply_bytes: int = 4 << 20
    """Entries handed out at a time to be applied."""

    def __attrs_post_init__(self) -> None:
        if not self.heartbeat_ms * 2 <= self.election_timeout_min_ms < self.election_timeout_max_ms:
            raise ValueError(
                f"need 2 * heartbeat_ms <= election_timeout_min_ms < election_timeout_max_ms, "
                f"not {self.heartbeat_ms}, {self.election_timeout_min_ms}, {self.election_timeout_max_ms}"
            )
        if not 0 < self.candidate_timeout_min_ms < self.candidate_timeout_max_ms:
            raise ValueError("need 0 < candidate_timeout_min_ms < candidate_timeout_max_ms")
        if self.lease_read_clock_drift is not None:
            if self.lease_read_clock_drift < 1.0:
                raise ValueError(
                    f"lease_read_clock_drift is how many times as fast one clock may go as another: "
                    f"1.0 or more, not {self.lease_read_clock_drift}"
                )
            if not self.check_quorum:
                raise ValueError("lease_read_clock_drift needs check_quorum: it rests on that promise")


@frozen
class StoreOptions:
    """The knobs of the state machine. Every member of a group must have the same ones."""

    min_lease_ttl_s: int = 2
    """A shorter lease lasts so long: one and a half election timeouts, in whole seconds, as etcd has it."""
    checkpoint_interval_s: float = 300.0
    """What is left of a longer lease is written down so often, as etcd does it."""
    token_ttl_s: float = 300.0
    """A token is void when it was not used for so long; etcd's --auth-token-ttl."""
    bcrypt_cost: int = 10
    """Of new passwords; etcd's --bcrypt-cost."""
    max_txn_operations: int = 128
    """Of one transaction, and of its compares; the default of etcd's --max-txn-ops."""
    quota_bytes: int = 2 << 30
    """What keys and values may come to, 0 for no limit; etcd's --quota-backend-bytes."""


@frozen
class MemberOptions:
    """The knobs of a member's actor."""

    store: StoreOptions = field(factory=StoreOptions)

    raft: RaftOptions = field(factory=RaftOptions)
    snapshot_entries: int = field(default=10_000, validator=[instance_of(int), gt(0)])
    """A snapshot is taken, and the log cut, after so many entries, or as many as there are keys; ..."""
    snapshot_bytes: int = field(default=32 << 20, validator=[instance_of(int), gt(0)])
    """... or after so many bytes of entries, or a quarter of what keys and values come to."""
    keep_entries: int = field(default=5_000, validator=[instance_of(int), gt(0)])
    """So many entries, or one for 32 keys, stay in memory for followers that
    lag; ..."""
    keep_bytes: int = field(default=8 << 20, validator=[instance_of(int), gt(0)])
    """... or so many bytes of entries, or a 32nd of what keys and values come to. When there are
    twice as many, the log is cut; whoever lags by more is sent the state."""
    max_forwarded_bytes: int = 32 << 20
    """Requests that were forwarded to the leader and are not answered; what comes beyond is refused."""
    read_seconds: float = 5.0
    """A read for which no index came within this time is given up; its router has asked again long since."""
    lease_retry_seconds: float = 1.0
    """A revocation that was proposed and did not happen is proposed again after this time."""


@frozen
class GroupOptions:
    """The knobs of a group and of its router."""

    members: int = field(default=3, validator=[instance_of(int), gt(0)])
    member: MemberOptions = field(factory=MemberOptions)
    request_timeout_seconds: float = 4.0
    """A request is answered within this time, if only with `Unavailable`: below what an ask waits by
    default."""
    long_request_seconds: float = 300.0
    """What takes long (hashes, physical compactions) is waited for as long as a member says that it is at it,
    and no longer than this."""
    retry_seconds: float = 1.0
    """A request without an answer is sent again after this time: it, or its answer, may have been lost."""
    probe_seconds: float = 0.2
    """Without news of a leader, some member is asked after this time."""
    max_request_bytes: int = 1_572_864
    """The default of etcd's --max-request-bytes."""
