"""One member of a Raft group in the hand, for tests of single rules."""

from random import Random

from understudy.raftstore.configuration import Configuration
from understudy.raftstore.messages import AppendReply, Entry, HardState, Message, Snapshot, VoteReply
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import PersistentState, Role

BOOTSTRAP = Snapshot(0, 0, Configuration(voters=(1, 2, 3)), None)


def entry(index: int, term: int) -> Entry:
    return Entry(index, term, "normal", f"{index}/{term}", 10)


def member(
    number: int = 1,
    hard_state: HardState | None = None,
    entries: tuple[Entry, ...] = (),
    voters: tuple[int, ...] = (1, 2, 3),
    outgoing: tuple[int, ...] = (),
    seed: int = 0,
    **options: float | bool | None,
) -> Raft:
    """A member that finds this on its disk, after a snapshot at index 0."""
    snapshot = Snapshot(0, 0, Configuration(voters=voters, outgoing=outgoing), None)
    state = PersistentState(hard_state or HardState(), snapshot, entries)
    return Raft(number, state, RaftOptions(**options), Random(seed))  # type: ignore[arg-type]


def work(raft: Raft) -> list[Message]:
    """Do everything; returns what is said."""
    said: list[Message] = []
    while not (ready := raft.ready()).empty:
        raft.persisted(ready)
        said += [*ready.messages, *ready.messages_after_sync]
        if ready.committed:
            for committed in ready.committed:
                if committed.kind == "configuration":
                    raft.apply_configuration(committed)
            raft.applied(ready.committed[-1].index)
    return said


def elect(raft: Raft, *voters: int) -> None:
    """Let it become leader, with the votes of these members; by default of member 2."""
    raft.campaign()
    for _ in range(2):
        pre = raft.role is Role.PRE_CANDIDATE
        work(raft)
        for voter in voters or (2,):
            raft.step(VoteReply(voter, raft.member, raft.term + pre, True, pre))
    assert raft.role is Role.LEADER


def leading(**options: float | bool | None) -> Raft:
    """A leader whose log ends with its own first entry, which is committed and applied."""
    raft = member(**options)
    elect(raft)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=1))
    work(raft)
    return raft
