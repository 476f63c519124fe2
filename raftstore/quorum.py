"""Majorities: which index a configuration has committed, and how a vote stands (§5.2, §5.3, joint: §6).

An empty half counts as agreeing to everything, so that a configuration that is not joint is a joint one whose
outgoing half is empty.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from understudy.raftstore.configuration import Configuration

EVERYTHING: Final = (1 << 64) - 1
"""The index that nobody holds up: what an empty majority has committed."""


class VoteResult(Enum):
    PENDING = "VotePending"
    LOST = "VoteLost"
    WON = "VoteWon"


def majority_committed(voters: tuple[int, ...], acknowledged: Mapping[int, int]) -> int:
    """The highest index that a majority of `voters` has acknowledged; whoever is not listed has none."""
    if not voters:
        return EVERYTHING
    indexes = sorted([acknowledged.get(voter, 0) for voter in voters])
    return indexes[(len(indexes) - 1) // 2]


def committed(configuration: Configuration, acknowledged: Mapping[int, int]) -> int:
    """The highest index that is committed: in a joint configuration it needs both majorities (§6)."""
    incoming = majority_committed(configuration.voters, acknowledged)
    if not configuration.outgoing:
        return incoming
    return min(incoming, majority_committed(configuration.outgoing, acknowledged))


def majority_vote(voters: tuple[int, ...], votes: Mapping[int, bool]) -> VoteResult:
    """How an election among `voters` stands; a voter not in `votes` has not been heard."""
    if not voters:
        return VoteResult.WON
    granted = sum(votes.get(voter) is True for voter in voters)
    refused = sum(votes.get(voter) is False for voter in voters)
    needed = len(voters) // 2 + 1
    if granted >= needed:
        return VoteResult.WON
    if len(voters) - refused < needed:
        return VoteResult.LOST
    return VoteResult.PENDING


def vote(configuration: Configuration, votes: Mapping[int, bool]) -> VoteResult:
    """How an election stands: lost as soon as either half is lost, won when both are won (§6)."""
    results = majority_vote(configuration.voters, votes), majority_vote(configuration.outgoing, votes)
    if VoteResult.LOST in results:
        return VoteResult.LOST
    if VoteResult.PENDING in results:
        return VoteResult.PENDING
    return VoteResult.WON
