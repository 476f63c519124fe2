"""What a member does for its clients: takes requests in, proposes or forwards them, answers them.

Whoever asks, asks his own member. A write is proposed by the leader: another member forwards it there, and
answers it from its own application of the log, so that nobody waits for an answer to travel back and a lost
proposal is simply sent again (within its session it is done once; thesis §6.3). A read is answered from the
own state, once the leader has said from when on that may be done (thesis §6.4). What only the leader knows,
what is left of leases, it is asked for.
"""

import logging
from collections.abc import Callable, Generator
from typing import Any, Final

from attrs import define, field, frozen

from understudy.actors import Ref, World
from understudy.mailbox import MailboxFull
from understudy.raftstore.cluster import Health
from understudy.raftstore.confchange import ConfigurationChange
from understudy.raftstore.machine import (
    CLUSTER_CHANGES,
    LONG_READS,
    Answer,
    Command,
    StateMachine,
    is_serializable,
    is_write,
    size_bytes,
    unwrapped,
)
from understudy.raftstore.membership import (
    Busy,
    Forward,
    ForwardOutcomes,
    Outcome,
    Outcomes,
    Peers,
    Submission,
    Submit,
    Working,
)
from understudy.raftstore.messages import ReadToken
from understudy.raftstore.options import MemberOptions
from understudy.raftstore.raft import Raft
from understudy.raftstore.readindex import ReadState
from understudy.raftstore.ready import NotLeading, ProposalRefused
from understudy.raftstore.storage import (
    Alarm,
    AlarmMember,
    AsUser,
    LeaseKeepAlive,
    LeaseTimeToLive,
    NotLeader,
    RequestProgress,
    Status,
    StatusReply,
    Unavailable,
)
from understudy.raftstore.storage.cluster import (
    ClusterChange,
    MemberList,
    MemberListReply,
    MembershipError,
    MoveLeader,
    MoveLeaderReply,
)

log = logging.getLogger("understudy.raftstore")

LEADERS_OWN: Final = (LeaseKeepAlive, LeaseTimeToLive, MoveLeader)
"""Reads that only the leader can answer: what is left of leases is in its clock alone."""
HEARD_SECONDS: Final = 5.0
"""A member that answered within this time counts as healthy, as in etcd."""


@frozen
class Asker:
    """Who is to be answered, within which session."""

    ref: Ref[Any]
    """A router; or the member that forwarded."""
    session: int
    forwarded: bool = False


@define(eq=False)
class Waiting:
    """Somebody waits for an answer."""

    asker: Asker
    number: int
    request: Any
    forwarded_bytes: int = 0
    """What it counts against the limit on what is forwarded and not answered."""
    term: int = 0
    """In which this member, leading, put it into its log; 0 if it did not."""


@define(eq=False)
class Clients:
    member: int
    options: MemberOptions
    raft: Raft
    machine: StateMachine
    peers: Peers
    world: World
    wake_watches: Callable[[], None]
    """Called when watches were asked for bookmarks."""
    long_work: Callable[[], None]
    """Called when `go_on` has something to do."""
    _waiting: dict[int, dict[int, Waiting]] = field(factory=dict)
    """By session and number: what is answered when the log has it, or by another member. No session without
    a number: each start of a router makes one more."""
    _reads: dict[ReadToken, tuple[float, list[Waiting]]] = field(factory=dict)
    """Reads without an index yet, and since when (s), oldest first ..."""
    _indexed: list[tuple[int, list[Waiting]]] = field(factory=list)
    """... and those whose index is not applied yet."""
    _outcomes: dict[Asker, list[Outcome]] = field(factory=dict)
    _forwarded_bytes: int = 0
    _long: dict[tuple[Asker, int], tuple[Waiting, Generator[None, None, Answer]]] = field(factory=dict)
    """Answers that take long, made bit by bit, one after another."""

    # ---------------------------------------------------------------- what comes in

    def submit(self, submit: Submit) -> None:
        """Take in requests of a router of this member."""
        self._forget(submit.session, submit.settled)
        self._take(Asker(submit.to, submit.session), submit.settled, submit.submissions)

    def forwarded(self, forward: Forward) -> None:
        """Take in requests that another member's clients have, and that are the leader's."""
        ref = self.peers.get(forward.member)
        if ref is None:
            return  # It will send them again to whoever leads then.
        self._forget(forward.session, forward.settled)
        self._take(Asker(ref, forward.session, forwarded=True), forward.settled, forward.submissions)

    def outcomes(self, outcomes: ForwardOutcomes) -> None:
        """What another member made of requests that were forwarded to it."""
        for outcome in outcomes.outcomes:
            waiting = self._pop(outcomes.session, outcome.number)
            if waiting is not None:
                self._answer(waiting, outcome.answer)

    def _take(self, asker: Asker, settled: int, submissions: tuple[Submission, ...]) -> None:
        reads: list[Waiting] = []
        onward: list[Waiting] = []
        leading = self.raft.leadership is not None
        for submission in submissions:
            request = unwrapped(submission.request)
            waiting = Waiting(asker, submission.number, submission.request)
            if (asker, submission.number) in self._long:
                self._answer(waiting, Answer(refusal=Working()))
                continue
            write = is_write(request)
            if not write and self._answer_here(waiting, request):
                continue
            if not write and not _is_leaders_own(submission.request):
                reads.append(waiting)
            elif not leading:
                onward.append(waiting)
            elif self._is_proposed(waiting):
                self._await_log(waiting)  # It is in the log, whose disk may just be slow.
            elif isinstance(request, MoveLeader):
                self._move_leader(waiting, request)
            elif isinstance(request, CLUSTER_CHANGES):
                self._change_cluster(waiting, request, settled)
            elif write or self.machine.through_log(request):
                self._propose(waiting, settled)
            else:
                reads.append(waiting)
        if reads:
            self._read_index(reads)
        if onward:
            self._forward(asker, settled, onward)

    def _answer_here(self, waiting: Waiting, request: Any) -> bool:
        """Answer what any member may answer by itself; returns whether that is so."""
        if isinstance(request, Status):
            self._answer(waiting, Answer(reply=self.status()))
        elif is_serializable(request) or (isinstance(request, MemberList) and not request.linearizable):
            self._answer_read(waiting)
        else:
            return False
        return True

    def _forget(self, session: int, settled: int) -> None:
        """A router waits for nothing below this number any more."""
        numbers = self._waiting.get(session)
        if numbers:
            for number in [number for number in numbers if number < settled]:
                self._pop(session, number)
        for asker, number in list(self._long):
            if asker.session == session and number < settled:
                del self._long[asker, number]

    def _register(self, waiting: Waiting) -> None:
        self._pop(waiting.asker.session, waiting.number)
        self._forwarded_bytes += waiting.forwarded_bytes
        self._waiting.setdefault(waiting.asker.session, {})[waiting.number] = waiting

    def _pop(self, session: int, number: int) -> Waiting | None:
        numbers = self._waiting.get(session, {})
        waiting = numbers.pop(number, None)
        if waiting is not None:
            self._forwarded_bytes -= waiting.forwarded_bytes
            if not numbers:
                del self._waiting[session]
        return waiting

    # ---------------------------------------------------------------- writes

    def _propose(self, waiting: Waiting, settled: int) -> None:
        """Propose a request. `settled`: see `Command`; 0 where it is not known."""
        machine = self.machine
        if machine.remembered(waiting.asker.session, waiting.number) is None:
            alarm = AlarmMember(self.member, "nospace")
            if machine.over_quota(waiting.request) and alarm not in machine.alarms.raised:
                # It is the alarm that refuses the request when that is applied. (A copy of it may be in the
                # log before: then it is done, and not refused.)
                log.warning(
                    "member %d: the store is full: %d bytes of keys and values, and the quota is %d. "
                    "Compact it, and take its alarm back: `etcdctl alarm disarm`",
                    self.member,
                    machine.store.keys.size_bytes,
                    machine.options.quota_bytes,
                )
                self.propose_own(Alarm("activate", alarm.member, alarm.alarm))
        request = machine.proposal(waiting.request, self.world.monotonic())
        command = Command(waiting.asker.session, waiting.number, settled, request)
        try:
            self.raft.propose(command, size_bytes(request))
        except NotLeading as error:
            self._answer(waiting, Answer(refusal=NotLeader(error.leader)))
        except ProposalRefused as error:
            self._refused(waiting, error)
        else:
            self._await_log(waiting)

    def _is_proposed(self, waiting: Waiting) -> bool:
        """Whether a request is in the log already, by this leader, whom nobody can have replaced."""
        known = self._waiting.get(waiting.asker.session, {}).get(waiting.number)
        return known is not None and known.term == self.raft.term

    def _await_log(self, waiting: Waiting) -> None:
        waiting.term = self.raft.term
        self._register(waiting)

    def _refused(self, waiting: Waiting, error: ProposalRefused) -> None:
        refusal = Busy(error.reason) if error.passing else Unavailable(error.reason)
        self._answer(waiting, Answer(refusal=refusal))

    def propose_own(self, request: Any) -> None:
        """Propose what nobody asked for. If it is not taken now, it will be proposed again."""
        try:
            self.raft.propose(Command(0, 0, 0, request), size_bytes(request))
        except (NotLeading, ProposalRefused):
            return

    def _forward(self, asker: Asker, settled: int, batch: list[Waiting]) -> None:
        """Give requests to the leader, as long as not too much is on its way there already."""
        leader = self.raft.leader
        peer = self.peers.get(leader) if leader and not asker.forwarded else None
        if peer is None:
            for waiting in batch:
                self._answer(waiting, Answer(refusal=NotLeader(leader)))
            return
        submissions: list[Submission] = []
        for waiting in batch:
            size = size_bytes(waiting.request)
            if self._forwarded_bytes and self._forwarded_bytes + size > self.options.max_forwarded_bytes:
                reason = f"{self._forwarded_bytes} bytes are on their way to the leader"
                self._answer(waiting, Answer(refusal=Unavailable(reason)))
                continue
            waiting.forwarded_bytes = size
            self._register(waiting)
            submissions.append(Submission(waiting.number, waiting.request))
        try:
            peer.tell(Forward(self.member, asker.session, settled, tuple(submissions)))
        except MailboxFull:
            for submission in submissions:
                lost = self._pop(asker.session, submission.number)
                assert lost is not None, submission
                self._answer(lost, Answer(refusal=Busy(f"the mailbox of member {leader} is full")))

    def applied(self, command: Command, answer: Answer) -> None:
        """The log has a command, and this came of it."""
        waiting = self._pop(command.session, command.number)
        # What was forwarded is answered by the member that forwarded it, when it applies this.
        if waiting is not None and not waiting.asker.forwarded:
            rest = self.machine.following(command.request, answer)
            if rest is None:
                self._answer(waiting, answer)
            else:
                self._answer_later(waiting, rest)

    def restored(self) -> None:
        """The state was replaced. What of the writes under way is in it, only their sessions tell."""
        waited, self._waiting = self._waiting, {}
        self._forwarded_bytes = 0
        for numbers in waited.values():
            for waiting in numbers.values():
                if not waiting.asker.forwarded:
                    self._answer(waiting, Answer(refusal=NotLeader(self.raft.leader)))

    # ---------------------------------------------------------------- the group itself

    def _change_cluster(self, waiting: Waiting, request: ClusterChange, settled: int) -> None:
        """Propose a change of the members, if it is safe now (thesis §4.1: one at a time)."""
        session = waiting.asker.session
        remembered = self.machine.remembered(session, waiting.number)
        if remembered is not None:
            self._answer(waiting, remembered)
            return
        if self.raft.configuration_pending:
            self._answer(waiting, Answer(refusal=Busy("a change of the members is under way")))
            return
        cluster = self.machine.cluster
        request = cluster.with_id(request)
        try:
            cluster.check(request)
            cluster.check_safe(request, self._health())
        except MembershipError as error:
            self._answer(waiting, Answer(refusal=error))
            return
        command = Command(session, waiting.number, settled, request)
        change = cluster.configuration_change(request)
        try:
            if change is None:
                self.raft.propose(command, size_bytes(request))
            else:
                self.raft.propose_configuration(
                    ConfigurationChange((change,), context=command), size_bytes(request)
                )
        except ProposalRefused as error:
            self._refused(waiting, error)
        else:
            self._await_log(waiting)

    def _health(self) -> Health:
        leadership = self.raft.leadership
        assert leadership is not None
        progress = leadership.progress
        since_ms = self.raft.now_ms - HEARD_SECONDS * 1000.0

        def heard(member: int) -> bool:
            return member == self.member or (member in progress and progress[member].heard_ms >= since_ms)

        def match(member: int) -> int:
            return progress[member].match if member in progress else 0

        return Health(heard, match, self.raft.log.last_index)

    def _move_leader(self, waiting: Waiting, request: MoveLeader) -> None:
        """Answered by the new leader, to whom the router sends it again."""
        try:
            self.raft.transfer_leadership(request.target)
        except ProposalRefused as error:
            refusal = MembershipError("bad leader transferee", error.reason)
            self._answer(waiting, Answer(refusal=refusal))
            return
        if request.target == self.member:
            reply = MoveLeaderReply(self.machine.store.revision, self.member)
            self._answer(waiting, Answer(reply=reply))

    # ---------------------------------------------------------------- reads

    def _read_index(self, reads: list[Waiting]) -> None:
        now_s = self.world.monotonic()
        while self._reads:
            # Questions or answers that were lost: their routers have asked again, or given up.
            token, (asked_s, _) = next(iter(self._reads.items()))
            if now_s - asked_s < self.options.read_seconds:
                break
            del self._reads[token]
            self.raft.abandon_read(token)
        try:
            self._reads[self.raft.read_index()] = now_s, reads
        except NotLeading:
            for waiting in reads:
                self._answer(waiting, Answer(refusal=NotLeader(0)))

    def indexed(self, reads: tuple[ReadState, ...], lost: tuple[ReadToken, ...]) -> None:
        """What the core says of reads; then answer those that may be."""
        for token in lost:
            for waiting in self._reads.pop(token, (0.0, []))[1]:
                self._answer(waiting, Answer(refusal=NotLeader(self.raft.leader)))
        for state in reads:
            found = self._reads.pop(state.token, None)
            if found is not None:
                self._indexed.append((state.index, found[1]))
        if self._indexed:
            self._answer_reads()

    def _answer_reads(self) -> None:
        applied = self.raft.log.applied_index
        later: list[tuple[int, list[Waiting]]] = []
        for index, reads in self._indexed:
            if index > applied:
                later.append((index, reads))
                continue
            for waiting in reads:
                request = unwrapped(waiting.request)
                if _is_leaders_own(waiting.request) and self.raft.leadership is None:
                    self._answer(waiting, Answer(refusal=NotLeader(self.raft.leader)))
                elif self.machine.through_log(waiting.request):
                    self._propose(waiting, settled=0)
                else:
                    self._answer_read(waiting)
                    if isinstance(request, RequestProgress):
                        self.wake_watches()
        self._indexed = later

    def _answer_read(self, waiting: Waiting) -> None:
        """Answer from the state as it is now, in a while where that takes long."""
        request, now_s = waiting.request, self.world.monotonic()
        if isinstance(unwrapped(request), LONG_READS):
            self._answer_later(waiting, self.machine.reading(request, now_s))
        elif isinstance(request, MemberList):
            store = self.machine.store
            reply = MemberListReply(store.revision, self.machine.cluster.all())
            self._answer(waiting, Answer(reply=reply))
        else:
            self._answer(waiting, self.machine.read(request, now_s))

    def status(self) -> StatusReply:
        raft = self.raft
        return self.machine.status(
            self.member,
            raft.leader,
            raft.term,
            raft.log.commit_index,
            raft.log.applied_index,
            self.member in raft.configuration.learners,
        )

    # ---------------------------------------------------------------- what takes long

    def _answer_later(self, waiting: Waiting, work: Generator[None, None, Answer]) -> None:
        self._long[waiting.asker, waiting.number] = waiting, work
        self.long_work()

    def go_on(self) -> bool:
        """Do a millisecond or two of what takes long; whether there is more."""
        for key, (waiting, work) in self._long.items():
            try:
                next(work)
            except StopIteration as end:
                del self._long[key]
                self._answer(waiting, end.value)
            break
        return bool(self._long)

    # ---------------------------------------------------------------- what goes out

    def _answer(self, waiting: Waiting, answer: Answer) -> None:
        self._outcomes.setdefault(waiting.asker, []).append(Outcome(waiting.number, answer))

    def send_outcomes(self) -> bool:
        """Tell everybody what came of his requests; False when somebody's mailbox has no room now."""
        outcomes, self._outcomes = self._outcomes, {}
        for asker, batch in outcomes.items():
            try:
                if asker.forwarded:
                    asker.ref.tell(ForwardOutcomes(self.member, asker.session, tuple(batch)))
                else:
                    asker.ref.tell(Outcomes(self.member, asker.session, tuple(batch)))
            except MailboxFull:
                self._outcomes[asker] = batch
        return not self._outcomes


def _is_leaders_own(request: Any) -> bool:
    """Whether only the leader can answer a read. It also counts the uses of tokens, which end without any."""
    if isinstance(request, AsUser) and request.token:
        return True
    return isinstance(unwrapped(request), LEADERS_OWN)
