"""The network between the hosts of one simulated world: what may happen to what is sent, as a state machine.

There are two services, and the runtime uses each for what it promises:

*Datagrams* carry messages that are told, and the requests of asks. A datagram arrives at most once. It is
lost with the link's chance, when the way is blocked as it is sent or as it would arrive, and when the
receiving host is down. Loss is silent: an asker sees `AskTimeout`, a teller nothing. A duplicate made by the
network is dropped on arrival, since every message has a number. Datagrams keep their order, but for those
that the link reorders.

*Sessions* carry answers, the news that an answer is no longer wanted, everything of channels, and the ends of
watched actors. There is one session for each pair of hosts, reliable and in order, as one TCP connection
would be. What is lost is sent again after `RETRANSMIT_SECONDS`, doubled up to a limit, and what follows
waits behind it. A session breaks when a direction has been blocked, or a packet sent again, for
`broken_after_seconds`; that long after a host has crashed; and as soon as a crashed host is back. Then
everything under way in either direction is gone, whoever registered hears of it, and the next packet begins
a new session. A break ends every channel between the two hosts with `HostUnreachable`; it does not fail
asks, since an answer may have been on its way: those time out.

A paused host is up: what arrives waits there. Within one host nothing can be lost.
"""

from collections import deque
from collections.abc import Callable, Iterable
from random import Random

from attrs import define, evolve, field, frozen

from understudy.mailbox import Refusal, message

RETRANSMIT_SECONDS = 0.2
RETRANSMIT_SECONDS_MAX = 2.0


@message("hosts.unreachable")
@frozen
class HostUnreachable(Refusal):
    """The session with another host broke; whether what was under way arrived is not known."""

    host: str
    why: str


@define
class LinkConditions:
    """One direction between two hosts; may be changed at any time. Chances are in [0, 1]."""

    latency_seconds: float = 0.0005
    jitter_seconds: float = 0.0
    """Added to the latency, up to so much, drawn for each packet; the order stays."""
    loss: float = 0.0
    """Chance that a packet is lost. In a session it is sent again, later."""
    duplication: float = 0.0
    """Chance that a datagram comes twice; the second is dropped on arrival."""
    reordering: float = 0.0
    """Chance that a datagram is overtaken: it takes up to ten times the latency longer."""


@define
class NetworkCounts:
    """What happened so far."""

    delivered: int = 0
    lost: int = 0
    duplicates_dropped: int = 0
    sent_again: int = 0
    sessions_broken: int = 0


@define(eq=False)
class _Packet:
    deliver: Callable[[], None]
    lost: Callable[[str], None]
    session: "_Session | None"
    """None: a datagram."""
    arrived: bool = False


@define(eq=False)
class _Session:
    """One connection between two hosts, from its first packet until it breaks."""

    pair: tuple[str, str]
    """Sorted."""
    broken: bool = False
    stalled: dict[tuple[str, str], deque[_Packet]] = field(factory=dict)
    """By direction: what waits to be sent again, oldest first."""


@define(eq=False)
class _Lane:
    """What is on its way in one direction, in order."""

    queue: deque[_Packet] = field(factory=deque)
    due: float = 0.0
    """When the last of it arrives."""


@define(eq=False)
class HostNetwork:
    """All links of one world."""

    now: Callable[[], float]
    after: Callable[[float, Callable[[], None], str], object]
    """A call after so many seconds of true time, labelled."""
    rng: Callable[[], Random]
    """The random stream, made when first needed."""
    note: Callable[[str], None]
    default: LinkConditions = field(factory=LinkConditions)
    """Of links that were never asked for by name."""
    broken_after_seconds: float = 10.0
    counts: NetworkCounts = field(factory=NetworkCounts, init=False)
    on_break: list[Callable[[str, str, str], None]] = field(factory=list, init=False)
    """Called with both hosts of a session and the reason when it breaks."""
    _links: dict[tuple[str, str], LinkConditions] = field(factory=dict, init=False)
    _blocked: dict[tuple[str, str], int] = field(factory=dict, init=False)
    """Directions in which nothing comes through; the number tells one block from the next."""
    _blocks: int = field(default=0, init=False)
    _down: set[str] = field(factory=set, init=False)
    _lanes: dict[tuple[str, str], _Lane] = field(factory=dict, init=False)
    _sessions: dict[tuple[str, str], _Session] = field(factory=dict, init=False)

    # -- conditions and faults

    def link(self, source: str, target: str) -> LinkConditions:
        """The conditions in one direction, to be changed: at first a copy of the default."""
        conditions = self._links.get((source, target))
        if conditions is None:
            conditions = self._links[source, target] = evolve(self.default)
        return conditions

    def block(self, source: str, target: str) -> None:
        """From now on nothing comes through in that one direction, and nobody is told."""
        if (source, target) not in self._blocked:
            self._blocks += 1
            number = self._blocked[source, target] = self._blocks
            self.note(f"blocked {source} to {target}")

            def still_blocked() -> None:
                if self._blocked.get((source, target)) == number:
                    self._break(source, target, "no packet came through for too long")

            self.after(self.broken_after_seconds, still_blocked, f"{source} to {target} blocked")

    def unblock(self, source: str, target: str) -> None:
        """Undo `block`."""
        if self._blocked.pop((source, target), None) is not None:
            self.note(f"unblocked {source} to {target}")

    def partition(self, *groups: Iterable[str]) -> None:
        """Block both directions between hosts of different groups."""
        sets = [sorted(group) for group in groups]
        for one in sets:
            for other in sets:
                if one is not other:
                    for source in one:
                        for target in other:
                            self.block(source, target)

    def heal(self) -> None:
        """Undo every block. What stalled is sent again within the retransmission time."""
        for source, target in list(self._blocked):
            self.unblock(source, target)

    def is_blocked(self, source: str, target: str) -> bool:
        """Whether nothing comes through in that direction."""
        return (source, target) in self._blocked

    def host_down(self, host: str) -> None:
        """A host has crashed: it receives nothing, and sends nothing again."""
        self._down.add(host)
        for session in list(self._sessions.values()):
            if host in session.pair:
                self.after(self.broken_after_seconds, self._breaker(session, "the host is down"), "keepalive")

    def host_up(self, host: str) -> None:
        """A crashed host is back, and knows no session any more."""
        self._down.discard(host)
        for session in list(self._sessions.values()):
            if host in session.pair:
                other = next(name for name in session.pair if name != host)
                # The host itself begins anew at once; the other one hears of it in an answer.
                latency = self._conditions(host, other).latency_seconds
                self._break_session(session, "the host was restarted", latency)

    # -- services

    def send(
        self,
        source: str,
        target: str,
        deliver: Callable[[], None],
        lost: Callable[[str], None],
        *,
        reliable: bool,
    ) -> None:
        """Put something on its way: through the session of the two hosts, or as a datagram.

        One of `deliver` and `lost` is called at most once, later; `lost` gets the reason. Of a datagram that
        is lost, the sender must not let anybody know.
        """
        assert source != target, f"{source} needs no network to reach itself"
        session = self._session(source, target) if reliable else None
        packet = _Packet(deliver, lost, session)
        if source in self._down:
            # Whoever still runs there is a ghost: the other side learns what the end of the session tells.
            if session is None:
                self.counts.lost += 1
            else:
                session.stalled.setdefault((source, target), deque()).append(packet)
            return
        conditions = self._conditions(source, target)
        delay = conditions.latency_seconds
        if conditions.jitter_seconds > 0.0:
            delay += conditions.jitter_seconds * self.rng().random()
        if session is None and self._happens(conditions.reordering):
            late = 10.0 * conditions.latency_seconds * self.rng().random()
            label = f"{source} to {target}"
            self.after(delay + late, lambda: self._arrive(source, target, packet), label)
            return
        self._queue(source, target, packet, delay)
        if session is None and self._happens(conditions.duplication):
            self._queue(source, target, packet, delay)

    def _queue(self, source: str, target: str, packet: _Packet, delay: float) -> None:
        """Let it arrive behind what is on its way already: each arrival takes whatever is first."""
        lane = self._lanes.setdefault((source, target), _Lane())
        lane.queue.append(packet)
        lane.due = max(lane.due, self.now() + delay)

        def arrive() -> None:
            self._arrive(source, target, lane.queue.popleft())

        self.after(lane.due - self.now(), arrive, f"{source} to {target}")

    def _arrive(self, source: str, target: str, packet: _Packet) -> None:
        session = packet.session
        if session is None:
            if packet.arrived:
                self.counts.duplicates_dropped += 1
            elif self._stopped(source, target):
                self._lose(packet, "the way is blocked, the host is down, or the packet was lost")
            else:
                self._hand_over(packet)
            packet.arrived = True
        elif session.broken:
            self._lose(packet, "the session broke")
        elif (source, target) in session.stalled:
            session.stalled[source, target].append(packet)
        elif self._stopped(source, target):
            session.stalled[source, target] = deque([packet])
            self._retry_later(session, source, target, 0.0, RETRANSMIT_SECONDS)
        else:
            self._hand_over(packet)

    def _retry_later(
        self, session: _Session, source: str, target: str, waited: float, interval: float
    ) -> None:
        def retry() -> None:
            if session.broken or source in self._down:
                return
            self.counts.sent_again += 1
            if not self._stopped(source, target):
                for packet in session.stalled.pop((source, target)):
                    self._hand_over(packet)
            elif waited + interval >= self.broken_after_seconds:
                self._break(source, target, "packets were sent again for too long")
            else:
                following = min(2.0 * interval, RETRANSMIT_SECONDS_MAX)
                self._retry_later(session, source, target, waited + interval, following)

        self.after(interval, retry, f"{source} to {target} again")

    def _hand_over(self, packet: _Packet) -> None:
        self.counts.delivered += 1
        packet.deliver()

    def _lose(self, packet: _Packet, reason: str) -> None:
        self.counts.lost += 1
        packet.lost(reason)

    def _stopped(self, source: str, target: str) -> bool:
        return (
            target in self._down
            or (source, target) in self._blocked
            or self._happens(self._conditions(source, target).loss)
        )

    def _conditions(self, source: str, target: str) -> LinkConditions:
        return self._links.get((source, target), self.default)

    def _happens(self, chance: float) -> bool:
        return chance > 0.0 and self.rng().random() < chance

    # -- sessions

    def _session(self, source: str, target: str) -> _Session:
        pair = (source, target) if source < target else (target, source)
        session = self._sessions.get(pair)
        if session is None:
            session = self._sessions[pair] = _Session(pair)
            if source in self._down or target in self._down:
                self.after(self.broken_after_seconds, self._breaker(session, "the host is down"), "keepalive")
        return session

    def open_session(self, one: str, other: str) -> None:
        """Somebody depends on hearing of the other host's end, although nothing was sent yet."""
        self._session(one, other)

    def _breaker(self, session: _Session, reason: str) -> Callable[[], None]:
        return lambda: self._break_session(session, reason)

    def _break(self, source: str, target: str, reason: str) -> None:
        session = self._sessions.get((source, target) if source < target else (target, source))
        if session is not None:
            self._break_session(session, reason)

    def _break_session(self, session: _Session, reason: str, heard_after_seconds: float = 0.0) -> None:
        if session.broken:
            return
        session.broken = True
        del self._sessions[session.pair]
        self.counts.sessions_broken += 1
        one, other = session.pair
        self.note(f"session of {one} and {other} broke: {reason}")
        if heard_after_seconds > 0.0:
            self.after(heard_after_seconds, lambda: self._tell_broken(session, reason), "reset")
        else:
            self._tell_broken(session, reason)

    def _tell_broken(self, session: _Session, reason: str) -> None:
        for stalled in session.stalled.values():
            for packet in stalled:
                self._lose(packet, reason)
        session.stalled.clear()
        for callback in self.on_break:
            callback(*session.pair, reason)
