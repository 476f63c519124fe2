"""Configuration changes: from one configuration to the next, or a refusal (§6; thesis §4.1 and §4.3).

A *simple* change moves at most one voter, so that old and new majorities overlap. Any other goes through a
joint configuration, which is entered with the changes and left without any.
"""

from typing import Any, Literal

from attrs import define, evolve, frozen

from understudy.mailbox import message
from understudy.raftstore.configuration import Configuration

ChangeKind = Literal["voter", "learner", "remove", "update"]
Transition = Literal["auto", "implicit", "explicit"]


@message("raft.change")
@frozen
class Change:
    kind: ChangeKind
    """"update" changes nothing here: it carries news of a member's address through the log."""
    member: int
    """0 is nobody, and changing nobody is no change."""


@message("raft.configuration-change")
@frozen
class ConfigurationChange:
    """The data of a configuration entry. Without changes it leaves the joint configuration."""

    changes: tuple[Change, ...] = ()
    transition: Transition = "auto"
    """"auto": simple where that is safe, else joint and left by itself; "implicit": joint, left by itself;
    "explicit": joint until somebody proposes to leave."""
    context: Any = None
    """Whatever the proposer wants to find again when it is applied."""

    @property
    def enters_joint(self) -> bool:
        return self.transition != "auto" or len(self.changes) > 1

    @property
    def leaves_joint(self) -> bool:
        return self.transition == "auto" and not self.changes


@define(slots=False)
class ChangeRefused(Exception):
    """A change that would not be safe, or that makes no sense where the group stands."""

    reason: str

    def __str__(self) -> str:
        return self.reason


def simple(configuration: Configuration, changes: tuple[Change, ...]) -> Configuration:
    """Apply changes that move at most one voter in all. Raises `ChangeRefused`."""
    if configuration.joint:
        raise ChangeRefused("can't apply simple config change in joint config")
    changed = _applied(configuration, changes)
    if len(set(configuration.voters) ^ set(changed.voters)) > 1:
        raise ChangeRefused("more than one voter changed without entering joint config")
    return changed


def enter_joint(configuration: Configuration, changes: tuple[Change, ...], auto_leave: bool) -> Configuration:
    """The joint configuration of the present one and the changed one. Raises `ChangeRefused`."""
    if configuration.joint:
        raise ChangeRefused("config is already joint")
    if not configuration.voters:
        raise ChangeRefused("can't make a zero-voter config joint")
    joint = evolve(configuration, outgoing=configuration.voters)
    return evolve(_applied(joint, changes), auto_leave=auto_leave)


def leave_joint(configuration: Configuration) -> Configuration:
    """The incoming half alone; voters on their way to learner arrive. Raises `ChangeRefused`."""
    if not configuration.joint:
        raise ChangeRefused("can't leave a non-joint config")
    learners = _sorted({*configuration.learners, *configuration.learners_next})
    return Configuration(voters=configuration.voters, learners=learners)


def apply_change(configuration: Configuration, change: ConfigurationChange) -> Configuration:
    """What a committed configuration entry makes of the configuration. Raises `ChangeRefused`."""
    if change.leaves_joint:
        return leave_joint(configuration)
    if change.enters_joint:
        return enter_joint(configuration, change.changes, auto_leave=change.transition != "explicit")
    return simple(configuration, change.changes)


def _applied(configuration: Configuration, changes: tuple[Change, ...]) -> Configuration:
    voters, learners = set(configuration.voters), set(configuration.learners)
    learners_next = set(configuration.learners_next)
    for change in changes:
        member = change.member
        if member == 0 or change.kind == "update":
            continue
        voters.discard(member)
        learners.discard(member)
        learners_next.discard(member)
        if change.kind == "voter":
            voters.add(member)
        elif change.kind == "learner":
            # Whoever still votes in the outgoing half must not be taken for a learner before that half is
            # left.
            (learners_next if member in configuration.outgoing else learners).add(member)
    if not voters:
        raise ChangeRefused("removed all voters")
    return evolve(
        configuration,
        voters=_sorted(voters),
        learners=_sorted(learners),
        learners_next=_sorted(learners_next),
    )


def _sorted(members: set[int]) -> tuple[int, ...]:
    return tuple(sorted(members))
