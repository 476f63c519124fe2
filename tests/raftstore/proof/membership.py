"""Changes of a group's members, asked for until they are made, whatever happens meanwhile."""

from collections.abc import Callable

from attrs import define

from understudy.actors import ActorFailed, Ref, World
from understudy.mailbox import Refusal
from understudy.raftstore.storage import Storage
from understudy.raftstore.storage.cluster import (
    ClusterMember,
    MemberAdd,
    MemberList,
    MemberPromote,
    MemberRemove,
    MembershipError,
)

ASK_SECONDS = 2.0
PASSING = (
    "too many learner members in cluster",
    "can only promote a learner member which is in sync with leader",
    "re-configuration failed due to not enough started members",
    "unhealthy cluster",
)
"""Why a change of the members is refused that may be made later."""

Members = tuple[ClusterMember, ...]


@define(eq=False)
class Changes:
    world: World
    stores: list[Ref[Storage]]
    """Whoever belongs to the group now."""
    over: bool = False
    made: int = 0

    async def let_in(self, url: str, *, is_learner: bool) -> int | None:
        """The id of a new member; None when it was over before."""

        def is_in(members: Members) -> bool:
            return any(url in each.peer_urls for each in members)

        members = await self._make(MemberAdd((url,), is_learner), is_in)
        return next((each.id for each in members if url in each.peer_urls), None)

    async def promote(self, member: int) -> bool:
        """Whether a learner is a voter now."""

        def is_voter(members: Members) -> bool:
            return any(each.id == member and not each.is_learner for each in members)

        return bool(await self._make(MemberPromote(member), is_voter))

    async def remove(self, member: int) -> bool:
        """Whether a member is none any more."""

        def is_out(members: Members) -> bool:
            return all(each.id != member for each in members)

        return bool(await self._make(MemberRemove(member), is_out))

    async def _make(
        self, change: MemberAdd | MemberPromote | MemberRemove, is_made: Callable[[Members], bool]
    ) -> Members:
        """The members with the change; nobody when it was over before. Raises AssertionError: it is refused
        for a reason that does not pass."""
        place = 0
        while not self.over:
            place += 1
            store = self.stores[place % len(self.stores)]
            refused: MembershipError | None = None
            try:
                await store.ask(change, ASK_SECONDS)
            except MembershipError as refusal:
                refused = refusal
            except (Refusal, ActorFailed):
                pass
            members = await self.listed(place)
            if members and is_made(members):
                self.made += 1
                return members
            # A change that was made before, and whose answer was lost, is refused too: then the list has it.
            assert not members or refused is None or refused.problem in PASSING, (change, refused, members)
            await self.world.sleep(0.1)
        return ()

    async def listed(self, place: int = 0) -> Members:
        """The members, linearizably; nobody when it was over before."""
        while not self.over:
            try:
                return (await self.stores[place % len(self.stores)].ask(MemberList(), ASK_SECONDS)).members
            except (Refusal, ActorFailed):
                place += 1
                await self.world.sleep(0.1)
        return ()
