"""What the leader has to propose because of the time: leases that are over, checkpoints, unused tokens.

Kept in memory by the leader alone and begun anew by the next one. Nothing ends here: what is due is proposed,
and ends when that is applied.
"""

from typing import Any

from attrs import define, field

from understudy.raftstore.deadlines import Deadlines
from understudy.raftstore.leases import LeaseClock, LeaseTable
from understudy.raftstore.options import StoreOptions
from understudy.raftstore.sessions import Answer
from understudy.raftstore.storage import (
    AssignToken,
    AsUser,
    ExpireTokens,
    LeaseCheckpoint,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
)
from understudy.raftstore.users import Users


@define
class Timing:
    options: StoreOptions
    leases: LeaseClock = field(init=False)
    under_way: dict[int, None] = field(factory=dict)
    """The leases whose end or checkpoint was proposed, and not seen applied."""
    _tokens: Deadlines[str] = field(factory=Deadlines)
    """When each token is void."""

    def __attrs_post_init__(self) -> None:
        self.leases = LeaseClock(self.options.checkpoint_interval_s)

    def start(self, leases: LeaseTable, users: Users, now_s: float) -> None:
        """Begin to lead."""
        for lease in leases:
            self.leases.start(lease.id, lease.remaining_s or lease.ttl_s, now_s)
        for token in users.tokens:
            self._tokens.set(token, now_s + self.options.token_ttl_s)

    def used(self, request: Any, now_s: float) -> None:
        """Somebody came with a token: it is good for the whole time again."""
        if isinstance(request, AsUser) and request.token in self._tokens:
            self._tokens.set(request.token, now_s + self.options.token_ttl_s)

    def applied(self, request: Any, answer: Answer, now_s: float) -> None:
        """A write was applied, with this answer."""
        match request:
            case LeaseCheckpoint():
                for lease, _ in request.remaining:
                    self.under_way.pop(lease, None)
            case ExpireTokens():
                for token in request.tokens:
                    self._tokens.forget(token)
            case LeaseRevoke():
                self.under_way.pop(request.id, None)
                if answer.refusal is None:
                    self.leases.forget(request.id)
            case LeaseGrant() | LeaseKeepAlive() if answer.refusal is None:
                self.leases.start(answer.reply.id, answer.reply.ttl_s, now_s)
            case AssignToken() if answer.refusal is None:
                self._tokens.set(answer.reply.token, now_s + self.options.token_ttl_s)

    def next_deadline_s(self) -> float | None:
        """When `due` has something to tell."""
        times = [self.leases.next_deadline_s(), self._tokens.next_s()]
        return min([time for time in times if time is not None], default=None)

    def due(self, now_s: float, retry_s: float) -> list[Any]:
        """What is to be proposed now; what does not come to be applied is told again after `retry_s`."""
        requests: list[Any] = []
        for lease in self.leases.take_over(now_s, retry_s):
            self.under_way[lease] = None
            requests.append(LeaseRevoke(lease))
        remaining = self.leases.take_checkpoints(now_s)
        if remaining:
            self.under_way.update((lease, None) for lease, _ in remaining)
            requests.append(LeaseCheckpoint(tuple(remaining)))
        unused = self._tokens.take(now_s)
        if unused:
            for token in unused:
                self._tokens.set(token, now_s + retry_s)
            requests.append(ExpireTokens(tuple(unused)))
        return requests
