"""Gives requests to a member that can answer them, and sends them again when there is reason to.

The members of this host are the router's: the one that leads, if one of them does, else any of them, which
forwards what is the leader's. Members remember what they answered within the router's session, so that a
write is done once however often it was sent (thesis §6.3).
"""

from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field

from understudy.actors import Context, Deferred, Event, Ref
from understudy.mailbox import MailboxFull
from understudy.raftstore import quorum
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.machine import is_serializable, is_write, unwrapped
from understudy.raftstore.membership import (
    Busy,
    MemberNews,
    Membership,
    Outcomes,
    Submission,
    Submit,
    Working,
)
from understudy.raftstore.options import GroupOptions
from understudy.raftstore.quorum import VoteResult
from understudy.raftstore.sessions import Answer
from understudy.raftstore.storage import NotLeader, Status, Storage, Unavailable
from understudy.raftstore.storage.cluster import Leadership, MemberList
from understudy.raftstore.waking import Waking


@define(eq=False)
class LocalMember:
    """A member of this router's host."""

    ref: Ref[Membership]
    running: bool = True
    gave_up: str = ""
    """Why it stopped by itself."""


@define(eq=False)
class Pending:
    """A request that is not answered yet."""

    number: int
    request: Any
    deferred: Deferred[Any]
    retry_s: float
    """When it is sent again, or given up."""
    end_s: float
    last_s: float
    """When it is given up even if a member is still at it."""
    settled: Event | None = None
    """Set with the answer, where a task of the actor's own waits for it."""
    answer: Answer | None = None
    member: int = 0
    """Who has it; 0 for nobody."""
    submissions: int = 0
    """How often somebody was given it."""
    bounces: int = 0
    """How often it came back since anything was heard of a leader."""

    @property
    def anywhere(self) -> bool:
        """Any member may answer it, also without a leader."""
        request = unwrapped(self.request)
        if isinstance(request, MemberList):
            return not request.linearizable
        return isinstance(request, Status) or is_serializable(request)


@define(eq=False)
class Router:
    context: Context[Storage]
    options: GroupOptions
    session: int
    members: dict[int, LocalMember] = field(factory=dict)
    """Those of this host, by id."""
    leader: int = 0
    """As far as is known; it may be elsewhere. 0 for nobody."""
    term: int = 0
    configuration: Configuration = field(factory=Configuration)
    """As far as is known; nobody while nothing is."""
    heard: dict[int, tuple[int, int]] = field(factory=dict)
    """What each member of this host last said: its term, and who leads in it."""
    running: list[int] = field(factory=list)
    """Of the members of this host."""
    _hopeless: bool = True
    """It is certain that no majority runs."""
    _pending: dict[int, Pending] = field(factory=dict)
    """Those that are not settled and that somebody waits for, by number, ascending."""
    _outbox: dict[int, list[Pending]] = field(factory=dict)
    _next_number: int = 1
    _turn: int = 0
    _probing: bool = False
    _flush: Callable[[], None] = field(init=False)
    _sweeping: Waking = field(init=False)
    """When to look for requests whose time is over."""

    def __attrs_post_init__(self) -> None:
        signal = self.context.world.signal(f"{self.context.path} outbox")
        self._flush = signal.set
        self._sweeping = Waking(self.context.world, signal.set, f"{self.context.path} retries")
        self.context.start_soon(self._send, signal.wait)

    # ---------------------------------------------------------------- requests

    def serve(self, request: Any) -> Deferred[Any]:
        """Have a request answered, or refused with a `StorageError`, within `request_timeout_seconds`."""
        pending = self._take(request)
        number = pending.number
        pending.deferred.on_abandoned(lambda: self._forget(number))
        self._begin(pending)
        return pending.deferred

    async def ask(self, request: Any) -> Any:
        """As `serve`, for a task of the actor's own. Raises a `StorageError`."""
        pending = self._take(request)
        pending.settled = self.context.world.event(f"request {pending.number}")
        try:
            self._begin(pending)
            if pending.answer is None:
                await pending.settled.wait()
        finally:
            self._forget(pending.number)
        answer = pending.answer
        assert answer is not None, pending
        if answer.refusal is not None:
            raise answer.refusal
        return answer.reply

    def _take(self, request: Any) -> Pending:
        number, now_s = self._next_number, self.context.world.monotonic()
        self._next_number += 1
        pending = self._pending[number] = Pending(
            number,
            request,
            Deferred(),
            retry_s=now_s + self.options.retry_seconds,
            end_s=now_s + self.options.request_timeout_seconds,
            last_s=now_s + self.options.long_request_seconds,
        )
        return pending

    def _begin(self, pending: Pending) -> None:
        self._route(pending)
        self._sweeping.by(pending.retry_s)

    def _forget(self, number: int) -> None:
        """Nobody waits for a request any more."""
        self._pending.pop(number, None)

    def _sweep(self) -> None:
        """Send again what nobody answered in time; give up what was not answered at all."""
        now_s = self.context.world.monotonic()
        for pending in list(self._pending.values()):
            if pending.end_s <= now_s:
                self._settle(pending, Answer(refusal=self._unavailable(pending)))
            elif pending.retry_s <= now_s:
                pending.retry_s = min(pending.end_s, now_s + self.options.retry_seconds)
                self._route(pending)
        due_s = min((pending.retry_s for pending in self._pending.values()), default=float("inf"))
        self._sweeping.by(due_s)

    def add(self, member: int, ref: Ref[Membership]) -> None:
        """A member of this host has been started."""
        self.members[member] = LocalMember(ref)
        self._recount()

    def _recount(self) -> None:
        """Who runs, and whether that is certainly no majority, after anything about it has changed."""
        self.running = [member for member, local in self.members.items() if local.running]
        voters = self.configuration.all_voters
        if not voters or any(voter not in self.members for voter in voters):
            # Nothing is known of those who are elsewhere.
            self._hopeless = not self.running
        else:
            votes = {voter: self.members[voter].running for voter in voters}
            self._hopeless = quorum.vote(self.configuration, votes) is not VoteResult.WON

    def watch_at(self) -> Ref[Membership] | None:
        """The member of this host to watch at: the leader, if it is here, else any while somebody leads."""
        running = self.running
        if self.leader in running:
            return self.members[self.leader].ref
        elsewhere = self.leader and self.leader not in self.members
        return self.members[running[0]].ref if elsewhere and running else None

    def snapshot_at(self) -> Ref[Membership] | None:
        """The member of this host that tells its state: the leader, if it is here, else any that runs."""
        running = self.running
        if self.leader in running:
            return self.members[self.leader].ref
        return self.members[running[0]].ref if running else None

    def leadership(self) -> Leadership:
        """Who leads, as the member says that answers here: the leader, if it is here, else any that runs."""
        running = self.running
        if not running:
            return Leadership()
        member = self.leader if self.leader in running else running[0]
        term, leader = self.heard.get(member, (0, 0))
        stopped = leader in self.members and leader not in running
        return Leadership(member, 0 if stopped else leader, term)

    def _unavailable(self, pending: Pending) -> Unavailable:
        limit_s = self.options.request_timeout_seconds
        if pending.end_s == pending.last_s:
            limit_s = self.options.long_request_seconds
        reason = f"no answer within {limit_s:g} s"
        if self._hopeless:
            reason = f"{len(self.running)} of {len(self.members)} members run, which is no majority"
            gave_up = {
                member: local.gave_up for member, local in sorted(self.members.items()) if local.gave_up
            }
            if gave_up:
                member, why = next(iter(gave_up.items()))
                reason += f"; member {member} stopped: {why}"
                reason += (
                    f"; {len(gave_up) - 1} more stopped, as their log lines say" if len(gave_up) > 1 else ""
                )
        elif not self.leader:
            reason = f"no leader within {limit_s:g} s"
        return Unavailable(reason, maybe_applied=bool(pending.submissions) and is_write(pending.request))

    def _route(self, pending: Pending) -> None:
        """Give a request to whoever can answer it, or keep it until there is somebody."""
        pending.member = 0
        running = self.running
        if self._hopeless and not (pending.anywhere and running):
            self._settle(pending, Answer(refusal=self._unavailable(pending)))
        elif self.leader in running:
            self._post(pending, self.leader)
        elif running and (pending.anywhere or (self.leader and self.leader not in self.members)):
            self._post(pending, running[pending.number % len(running)])
        else:
            self._probe_later()

    def _post(self, pending: Pending, member: int) -> None:
        pending.member = member
        pending.submissions += 1
        self._outbox.setdefault(member, []).append(pending)
        self._flush()

    def _settle(self, pending: Pending, answer: Answer) -> None:
        if pending.answer is not None:
            return
        pending.answer = answer
        self._forget(pending.number)
        if pending.settled is not None:
            pending.settled.set()
        elif answer.refusal is not None:
            pending.deferred.refuse(answer.refusal)
        else:
            pending.deferred.answer(answer.reply)

    async def _send(self, flushed: Callable[[], Any]) -> None:
        """Whatever came in meanwhile goes to its member in one message."""
        while True:
            await flushed()
            if self._pending and self._sweeping.due_s == float("inf"):
                self._sweep()
            outbox, self._outbox = self._outbox, {}
            settled = next(iter(self._pending), self._next_number)
            for member, batch in outbox.items():
                submissions = tuple(
                    [
                        Submission(pending.number, pending.request)
                        for pending in batch
                        if pending.member == member and pending.number in self._pending
                    ]
                )
                local = self.members.get(member)
                try:
                    if local is None:
                        raise MailboxFull(member)
                    local.ref.tell(Submit(self.session, settled, submissions, self.context.self))
                except MailboxFull:
                    for pending in batch:
                        pending.member = 0
                    self._probe_later()

    def _probe_later(self) -> None:
        if not self._probing:
            self._probing = True
            self.context.world.call_later(
                self.options.probe_seconds, self._probe, f"{self.context.path} probe"
            )

    def _probe(self) -> None:
        """No news of a leader: ask the next member, whose refusal tells more."""
        self._probing = False
        running = self.running
        if not running:
            return
        self._turn += 1
        target = self.leader if self.leader in running else running[self._turn % len(running)]
        for pending in self._pending.values():
            if not pending.member:
                pending.bounces = 0
                self._post(pending, target)

    # ---------------------------------------------------------------- what members say

    def outcomes(self, outcomes: Outcomes) -> None:
        if outcomes.session != self.session:
            return
        for outcome in outcomes.outcomes:
            pending = self._pending.get(outcome.number)
            if pending is None:
                continue
            answer = outcome.answer
            refusal = answer.refusal
            if refusal is None:
                self._settle(pending, answer)
            elif isinstance(refusal, Working):
                end_s = self.context.world.monotonic() + self.options.request_timeout_seconds
                pending.end_s = min(pending.last_s, end_s)
            elif isinstance(refusal, NotLeader | Busy):
                if pending.member == outcomes.member:
                    self._bounced(pending, refusal)
            elif isinstance(refusal, Unavailable) and pending.submissions > 1 and is_write(pending.request):
                # It was not taken this time; nobody knows what became of it before.
                self._settle(pending, Answer(refusal=evolve(refusal, maybe_applied=True)))
            else:
                self._settle(pending, answer)

    def _bounced(self, pending: Pending, refusal: NotLeader | Busy) -> None:
        """A member did not take a request. Follow its hint, but not in a circle."""
        member, pending.member = pending.member, 0
        pending.bounces += 1
        if isinstance(refusal, NotLeader):
            if self.leader == member:
                self.leader = 0
            target = self.leader or refusal.leader
            if target in self.running and target != member and pending.bounces < 3:
                self._post(pending, target)
                return
        self._probe_later()

    def news(self, news: MemberNews) -> None:
        self.heard[news.member] = news.term, news.leader
        if news.term < self.term:
            return
        if news.configuration is not self.configuration:
            self.configuration = news.configuration
            self._recount()
        if news.leader == 0:
            if news.member == self.leader or self.leader not in self.members:
                self.leader = 0
            return
        local = self.members.get(news.leader)
        if local is not None and not local.running:
            return
        new = (news.term, news.leader) != (self.term, self.leader)
        self.term, self.leader = news.term, news.leader
        if new:
            self.send_again()

    def send_again(self) -> None:
        """Another leads: its session makes it safe to send again what the last leader may have taken."""
        for pending in list(self._pending.values()):
            if not pending.anywhere:
                pending.bounces = 0
                self._route(pending)

    def lost(self, member: int, final: bool) -> None:
        """A member of this host has stopped; finally, or it is about to start again."""
        local = self.members.get(member)
        self.heard.pop(member, None)
        if local is not None:
            local.running = not final
            self._recount()
        if self.leader == member:
            self.leader = 0
        for pending in list(self._pending.values()):
            if pending.member in (0, member) or final:
                self._route(pending)
