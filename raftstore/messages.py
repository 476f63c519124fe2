"""What Raft members say to one another, and what a log is made of.

Every message is a frozen value with its sender, its receiver and the sender's term. Names follow the Raft
paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", extended version; "§") and
Ongaro's thesis ("thesis §") where these have them.
"""

from typing import Any, Literal

from attrs import frozen

from understudy.mailbox import message
from understudy.raftstore.configuration import Configuration

EntryKind = Literal["normal", "configuration"]


@message("raft.entry")
@frozen
class Entry:
    """One place of the replicated log. Same index and term means same content, at every member (§5.3)."""

    index: int
    term: int
    kind: EntryKind
    data: Any
    """What the state machine is to apply: an immutable message. None: nothing, a new leader's first entry."""
    size_bytes: int
    """What the entry counts against the size limits, as its proposer reckoned it."""


@message("raft.snapshot")
@frozen
class Snapshot:
    """The state machine after entry `index`, in place of the log up to there (§7)."""

    index: int
    term: int
    configuration: Configuration
    """The configuration as of `index`."""
    data: Any
    """The state, immutable; None for the state before any write."""


@message("raft.hard-state")
@frozen
class HardState:
    """What must be durable before anybody is told of it (§5, figure 2)."""

    term: int = 0
    vote: int = 0
    """Who got this member's vote in `term`, 0 for nobody."""
    commit_index: int = 0
    """May lag behind what was said: it is learnt again from the leader."""


@message("raft.vote-request")
@frozen
class VoteRequest:
    """§5.2; with `pre`, whether a vote *would* be granted (thesis §9.6): then `term` is the one to come."""

    sender: int
    to: int
    term: int
    last_index: int
    last_term: int
    pre: bool = False
    transfer: bool = False
    """The leader itself asked for this election (thesis §3.10): no respite for a leader that lives."""
    commit_index: int = 0
    """What the sender knows to be committed. Whoever has that entry learns of it here, as it may hold a
    configuration without which nobody could win (etcd#12359)."""
    commit_term: int = 0


@message("raft.vote-reply")
@frozen
class VoteReply:
    sender: int
    to: int
    term: int
    granted: bool
    pre: bool = False
    commit_index: int = 0
    """Of a refusal: what the refuser knows to be committed, as in the request."""
    commit_term: int = 0


@message("raft.append-request")
@frozen
class AppendRequest:
    """§5.3."""

    sender: int
    to: int
    term: int
    previous_index: int
    previous_term: int
    entries: tuple[Entry, ...]
    commit_index: int


@message("raft.append-reply")
@frozen
class AppendReply:
    """The log agrees up to `index`; or, `rejected`, it does not have the entry at `index` that was
    presupposed.

    Also the answer to a snapshot, and to a leader of an old term (which steps down on seeing the higher one).
    """

    sender: int
    to: int
    term: int
    index: int
    rejected: bool = False
    hint_index: int = 0
    """Of a rejection: the last place where the logs may agree ..."""
    hint_term: int = 0
    """... and its term: lets the leader pass over a whole term at a time (§5.3, end)."""


@message("raft.heartbeat")
@frozen
class Heartbeat:
    sender: int
    to: int
    term: int
    commit_index: int
    """Never beyond what the receiver is known to have."""
    read_round: int
    """Confirms leadership for every read of this round and before (§8; thesis §6.4)."""


@message("raft.heartbeat-reply")
@frozen
class HeartbeatReply:
    sender: int
    to: int
    term: int
    read_round: int


@message("raft.snapshot-request")
@frozen
class SnapshotRequest:
    """§7, the whole state in one message."""

    sender: int
    to: int
    term: int
    snapshot: Snapshot


@message("raft.timeout-now")
@frozen
class TimeoutNow:
    """Stand for election at once: the leader hands over (thesis §3.10)."""

    sender: int
    to: int
    term: int


@message("raft.read-token")
@frozen
class ReadToken:
    """Names one read request, never a second: a counter beside a number drawn anew at each start.

    (etcd#20418: a request id used twice let an old answer satisfy a newer read.)
    """

    nonce: int
    number: int


@message("raft.read-index-request")
@frozen
class ReadIndexRequest:
    """A follower asks the leader for a read index (thesis §6.4)."""

    sender: int
    to: int
    term: int
    token: ReadToken


@message("raft.read-index-reply")
@frozen
class ReadIndexReply:
    sender: int
    to: int
    term: int
    token: ReadToken
    index: int


Message = (
    VoteRequest
    | VoteReply
    | AppendRequest
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | SnapshotRequest
    | TimeoutNow
    | ReadIndexRequest
    | ReadIndexReply
)
