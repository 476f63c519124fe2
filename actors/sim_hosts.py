"""The hosts of a simulated world: machines that crash, pause, run with wrong clocks, and own a disk.

An actor lives on the host where it was spawned; code outside any actor is on no host, and its messages leave
from the host `local`. What a crash does, in one moment: nothing on the host gets another turn that could be
noticed elsewhere; no stop hook runs, no channel is closed, nothing is sent; mailboxes, timers and channel
ends are gone; of its disk's unsynced writes some survive. Others learn of it by silence: asks time out, and
channels and watches end when the session breaks (see `host_network`).

What a restart does: actors that a supervisor elsewhere (or nobody) started on the host begin a new
incarnation, with empty mailboxes, unless they are temporary: as an init system would start them. Their
children are theirs to start again.

Clean-up of a crashed actor's code (`finally`, `except Cancelled`) still runs, since Python offers no other
way to end a task: it can send nothing, and the disk refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from .sim_disk import SimDisk
from .world import Event

if TYPE_CHECKING:
    from .sim import SimWorld


@define(eq=False)
class HostClock:
    """How a host's clocks differ from true time."""

    offset_seconds: float = 0.0
    """Its wall clock is ahead by this much."""
    _drift: float = 0.0
    _since: float = 0.0
    """True time of the last change of drift."""
    _local: float = 0.0
    """What the host's own monotonic clock said then."""

    @property
    def drift(self) -> float:
        """Its clocks run faster by this fraction: 0.01 gains 10 ms a second. Timers run by them, too."""
        return self._drift

    def monotonic(self, true_seconds: float) -> float:
        """What the host's monotonic clock says at that true time."""
        return self._local + (true_seconds - self._since) * (1.0 + self._drift)

    def set_drift(self, drift: float, true_seconds: float) -> None:
        """Run at another speed from that moment on; the monotonic clock does not jump."""
        assert drift > -1.0, f"a clock does not stand still or go backward: {drift}"
        self._local = self.monotonic(true_seconds)
        self._since = true_seconds
        self._drift = drift

    def true_delay(self, seconds: float) -> float:
        """How long it truly takes until so many of the host's seconds have passed."""
        return seconds / (1.0 + self._drift)


@define(eq=False)
class SimHost:
    """One machine. Get it from `SimWorld.host`."""

    name: str
    _world: SimWorld = field(repr=False)
    clock: HostClock = field(factory=HostClock, init=False)
    up: bool = field(default=True, init=False)
    """It has power: it may be paused all the same."""
    crashes: int = field(default=0, init=False)
    disk: SimDisk = field(init=False)
    _came_up: Event = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.disk = SimDisk(self._world, self.name)
        self._came_up = self._world.event(f"{self.name} is up")

    def crash(self) -> None:
        """Take its power away; harmless when it is down already."""
        if self.up:
            self.up = False
            self.crashes += 1
            self._world.dispatcher.note("host", f"{self.name} crashed")
            self.resume()
            self._world.network.host_down(self.name)
            self.disk.crash()
            for listener in list(self._world.crash_listeners):
                listener(self.name)

    def restart(self) -> None:
        """Give its power back; harmless when it is up."""
        if not self.up:
            self.up = True
            self._world.dispatcher.note("host", f"{self.name} started")
            self._world.network.host_up(self.name)
            came_up, self._came_up = self._came_up, self._world.event(f"{self.name} is up")
            came_up.set()

    async def until_up(self) -> None:
        """Return once it has power."""
        while not self.up:
            await self._came_up.wait()

    def pause(self) -> None:
        """Let nothing on it go on: no actor, no timer. What arrives waits. Its clocks go on."""
        if self.up:
            self._world.pause_host(self.name)

    def resume(self) -> None:
        """Let everything go on that became ready meanwhile, in that order."""
        self._world.resume_host(self.name)

    @property
    def paused(self) -> bool:
        """Whether nothing on it goes on."""
        return self._world.host_paused(self.name)

    def set_offset(self, seconds: float) -> None:
        """Put its wall clock ahead of true time by so much (behind, if negative), as an operator would."""
        self._world.use_clock(self.name, self.clock)
        self.clock.offset_seconds = seconds

    def set_drift(self, drift: float) -> None:
        """Let its clocks run faster by this fraction from now on (slower, if negative)."""
        self._world.use_clock(self.name, self.clock)
        self.clock.set_drift(drift, self._world.true_seconds())
