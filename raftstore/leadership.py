"""What only a leader keeps: followers' progress, reads under way, a hand-over, what is not committed."""

from attrs import define

from understudy.raftstore.configuration import Configuration
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.progress import Inflight, Progress
from understudy.raftstore.readindex import ReadRounds


def reconcile(
    progress: dict[int, Progress], configuration: Configuration, last_index: int, options: RaftOptions
) -> dict[int, Progress]:
    """The progress map of a new configuration: known members keep theirs, new ones begin at the log's end.

    Somebody on his way to learner (`learners_next`) still counts as a voter until the joint configuration is
    left.
    """
    reconciled: dict[int, Progress] = {}
    for member in configuration.members:
        known = progress.get(member)
        if known is None:
            # A new member counts as heard, or it would cost the leader its quorum before it could answer
            # (thesis §4.2.1 would have it catch up as a learner first).
            known = Progress(
                match=0,
                next=max(last_index, 1),
                inflight=Inflight(options.max_inflight_messages, options.max_inflight_bytes),
                recently_active=True,
            )
        reconciled[member] = known
    return reconciled


@define
class Leadership:
    progress: dict[int, Progress]
    """By member, the leader among them, in the order of the ids."""
    heartbeat_deadline_ms: float
    quorum_deadline_ms: float
    pending_configuration_index: int
    """No configuration entry is proposed before this index is applied (thesis §4.1: one at a time)."""
    reads: ReadRounds
    uncommitted_bytes: int = 0
    transferee: int = 0
    """Who is to take over; nothing is proposed meanwhile. 0 for nobody."""
    transfer_deadline_ms: float = float("inf")
    lease_until_ms: float = float("-inf")
    """Until then nobody else can have been elected, if the clocks are as good as promised (thesis §6.4.1)."""
    lease_forfeited: bool = False
    """Somebody was told to stand, and may do so as long as the term lasts, whatever he promised."""
