"""A simulated network: byte streams between places, with faults on purpose, in virtual time.

What TCP may do, it does: cut what was written into other chunks, stall, break and lose whatever was on its
way, or fall silent without a word in one direction or both. Never does it change the order of a stream.
"""

from collections import deque
from random import Random

from attrs import define, field

from understudy.actors.world import Signal, World

from .link import AddressError, LinkLost, parse_address


@define(eq=False)
class _Pipe:
    """One direction of a link."""

    world: World
    network: "SimNetwork"
    pair: tuple[str, str]
    """Places of sender and receiver."""
    readable: Signal
    arrived: deque[bytes] = field(factory=deque, init=False)
    under_way: deque[bytes] = field(factory=deque, init=False)
    broken: str = field(default="", init=False)
    """Why nothing more comes through; "closed" after an orderly end."""

    def write(self, data: bytes) -> None:
        """Put bytes on their way, cut at random."""
        random, network = self.network.random, self.network
        while data:
            size = random.randint(1, max(1, min(len(data), network.chunk_bytes_max)))
            self._carry(data[:size])
            data = data[size:]

    def _carry(self, chunk: bytes) -> None:
        self.under_way.append(chunk)
        self.world.call_later(self.network.latency_seconds, self._arrive, f"{self.pair[0]} to {self.pair[1]}")

    def _arrive(self) -> None:
        if self.broken and self.broken != "closed":
            return
        chunk = self.under_way.popleft()
        if not chunk:
            self.broken = self.broken or "closed"
        elif self.pair in self.network.silent:
            self.network.held.setdefault(self.pair, []).append((self, chunk))
            return
        else:
            self.arrived.append(chunk)
        self.readable.set()

    def end(self) -> None:
        """Nothing follows what was written: the end is a chunk of its own."""
        self._carry(b"")

    def break_off(self, reason: str) -> None:
        """What is under way is lost."""
        self.under_way.clear()
        self.broken = reason
        self.readable.set()


@define(eq=False)
class SimLink:
    """One end of a simulated stream."""

    certificate_names: frozenset[str] | None
    _outward: _Pipe
    _inward: _Pipe
    _random: Random
    _closed: bool = field(default=False, init=False)

    async def open(self) -> None:
        """Nothing comes before the first byte."""

    def _check(self) -> None:
        if self._closed:
            raise LinkLost("closed here")
        if self._outward.broken:
            raise LinkLost(self._outward.broken)

    def send_now(self, data: bytes) -> int:
        """A part of it, as a full socket buffer would have it."""
        self._check()
        size = self._random.randint(0, len(data))
        self._outward.write(data[:size])
        return size

    async def send(self, data: bytes) -> None:
        """All of it, in two pieces with a wait between: whoever is cancelled there leaves half a frame."""
        self._check()
        half = len(data) // 2
        self._outward.write(data[:half])
        await self._outward.world.sleep(0.0, "simulated send")
        self._check()
        self._outward.write(data[half:])

    async def receive(self) -> bytes:
        """The next chunk."""
        while not self._inward.arrived:
            if self._closed:
                raise LinkLost("closed here")
            if self._inward.broken == "closed":
                return b""
            if self._inward.broken:
                raise LinkLost(self._inward.broken)
            await self._inward.readable.wait()
        return self._inward.arrived.popleft()

    def close(self) -> None:
        """Both directions end."""
        if not self._closed:
            self._closed = True
            if not self._outward.broken:
                self._outward.end()
            self._inward.readable.set()


@define(eq=False)
class _SimListener:
    """A place that answers."""

    address: str
    network: "SimNetwork"
    place: str
    waiting: deque[SimLink] = field(factory=deque, init=False)
    arrived: Signal = field(init=False)
    closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.arrived = self.network.world.signal(f"{self.place} is called")

    async def accept(self) -> SimLink:
        """The next link."""
        while not self.waiting:
            if self.closed:
                raise LinkLost("the listener is closed")
            await self.arrived.wait()
        return self.waiting.popleft()

    def close(self) -> None:
        """The place answers no more."""
        if not self.closed:
            self.closed = True
            del self.network.listeners[self.place]
            self.arrived.set()


@define(eq=False)
class SimNetwork:
    """All places of one simulation."""

    world: World
    latency_seconds: float = 0.0005
    chunk_bytes_max: int = 64
    """Streams are cut into chunks of at most that many bytes."""
    listeners: dict[str, _SimListener] = field(factory=dict, init=False)
    silent: set[tuple[str, str]] = field(factory=set, init=False)
    """Directions, by sender and receiver, in which nothing arrives and nobody is told."""
    held: dict[tuple[str, str], list[tuple[_Pipe, bytes]]] = field(factory=dict, init=False)
    """What waits in silent directions."""
    refusing: set[str] = field(factory=set, init=False)
    """Places that cannot be reached by new connections."""
    random: Random = field(init=False)
    _pipes: list[_Pipe] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.random = self.world.rng("simulated network")

    def at(self, place: str) -> "SimTransport":
        """The network as seen from a place; its address is `sim:PLACE`."""
        return SimTransport(self, place)

    def cut(self, one: str, other: str) -> None:
        """Break every stream between two places; what is on its way is lost."""
        for pipe in self._pipes:
            if set(pipe.pair) == {one, other} and not pipe.broken:
                pipe.break_off("the connection was reset")
        self._pipes = [pipe for pipe in self._pipes if not pipe.broken]

    def silence(self, sender: str, receiver: str) -> None:
        """From now on nothing that `sender` sends arrives, and nobody is told."""
        self.silent.add((sender, receiver))

    def restore(self, sender: str, receiver: str) -> None:
        """Undo `silence`; what was sent meanwhile arrives late, as retransmissions do."""
        self.silent.discard((sender, receiver))
        for pipe, chunk in self.held.pop((sender, receiver), []):
            if not pipe.broken:
                pipe.arrived.append(chunk)
                pipe.readable.set()

    def link(self, caller: str, called: str) -> tuple[SimLink, SimLink]:
        """The two ends of a new stream."""

        def pipe(sender: str, receiver: str) -> _Pipe:
            made = _Pipe(self.world, self, (sender, receiver), self.world.signal(f"{sender} to {receiver}"))
            self._pipes.append(made)
            return made

        there, back = pipe(caller, called), pipe(called, caller)
        return SimLink(None, there, back, self.random), SimLink(None, back, there, self.random)


@define(eq=False)
class SimTransport:
    """A simulated network as one place sees it."""

    network: SimNetwork
    place: str

    async def connect(self, address: str) -> SimLink:
        """See `Transport.connect`."""
        network, called = self.network, parse_address(address).host
        await network.world.sleep(network.latency_seconds, f"{self.place} calls {called}")
        while (self.place, called) in network.silent or (called, self.place) in network.silent:
            await network.world.sleep(0.1, f"{self.place} calls {called}")
        listener = network.listeners.get(called)
        if listener is None or called in network.refusing:
            raise LinkLost(f"nobody answers at {address}")
        near, far = network.link(self.place, called)
        listener.waiting.append(far)
        listener.arrived.set()
        return near

    async def listen(self, address: str) -> _SimListener:
        """See `Transport.listen`."""
        if address != f"sim:{self.place}" or self.place in self.network.listeners:
            raise AddressError(f"{self.place} cannot listen at {address}, or does so already")
        listener = self.network.listeners[self.place] = _SimListener(address, self.network, self.place)
        return listener
