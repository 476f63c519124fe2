"""Who takes part in a group: voters, learners, the two halves of a joint configuration (§6; thesis §4)."""

from attrs import frozen

from understudy.mailbox import message


@message("raft.configuration")
@frozen
class Configuration:
    """Members by id. Tuples are sorted and without repeats, so that equal configurations are equal values."""

    voters: tuple[int, ...] = ()
    """The voters; in a joint configuration the incoming half."""
    outgoing: tuple[int, ...] = ()
    """The outgoing half of a joint configuration; empty otherwise."""
    learners: tuple[int, ...] = ()
    """Members that are sent the log and never counted (thesis §4.2.1). Disjoint from both halves."""
    learners_next: tuple[int, ...] = ()
    """Voters of the outgoing half that become learners when the joint configuration is left."""
    auto_leave: bool = False
    """The leader leaves the joint configuration by itself once it is committed."""

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def all_voters(self) -> tuple[int, ...]:
        """The voters of both halves, sorted."""
        if not self.outgoing:
            return self.voters
        return tuple(sorted({*self.voters, *self.outgoing}))

    @property
    def members(self) -> tuple[int, ...]:
        """Everybody who is sent the log, sorted."""
        if not (self.outgoing or self.learners or self.learners_next):
            return self.voters
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners, *self.learners_next}))

    def __str__(self) -> str:
        def ids(members: tuple[int, ...]) -> str:
            return f"({' '.join(map(str, members))})"

        text = f"voters={ids(self.voters)}"
        if self.outgoing:
            text += f"&&{ids(self.outgoing)}"
        if self.learners:
            text += f" learners={ids(self.learners)}"
        if self.learners_next:
            text += f" learners_next={ids(self.learners_next)}"
        if self.auto_leave:
            text += " autoleave"
        return text
