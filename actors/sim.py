"""The simulated world: hosts, links and disks in virtual time, one turn at a time (see `turns`)."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from importlib.resources import files
from typing import TypeVar

import trio
from outcome import Error, Outcome, Value, acapture

from .dispatch import SimulationOver, Timer
from .host_network import HostNetwork, LinkConditions
from .schedule import Fifo, Schedule
from .sim_disk import SimDisk
from .sim_hosts import HostClock, SimHost
from .turns import Resume, SimDispatcher, TurnGuard, host_here
from .turns import SimulationDeadlock as SimulationDeadlock
from .turns import SimulationTooLong as SimulationTooLong
from .turns import UnscheduledStep as UnscheduledStep
from .virtual_time import VirtualRun, run_in_virtual_time
from .world import EPOCH, KeyProvider, World, wall_clock

T = TypeVar("T")


class FixedKeys(KeyProvider):
    """One committed test key of a kind, whatever its name: signatures repeat, and keys cost no time."""

    async def rsa_private_key(self, name: str) -> bytes:
        return files("understudy.actors").joinpath("simulation_key.pem").read_bytes()

    async def ec_private_key(self, name: str) -> bytes:
        return files("understudy.actors").joinpath("simulation_ec_key.pem").read_bytes()


class SimWorld(World):
    """A world in virtual time. One world is one run: `SimWorld(seed).run(main)`."""

    def __init__(
        self,
        seed: int = 0,
        schedule: Schedule | None = None,
        *,
        turns_max: int = 10_000_000,
        latency_seconds: float = 0.0005,
        observe: Callable[[int, float, str], None] | None = None,
    ) -> None:
        """`latency_seconds` is how long a message takes between two hosts."""
        self._sim = SimDispatcher(schedule or Fifo(), turns_max, observe)
        super().__init__(self._sim, seed)
        self.keys = FixedKeys()
        sim = self._sim
        self.network: HostNetwork = HostNetwork(
            self.true_seconds,
            sim.after,
            lambda: self.rng("network"),
            lambda what: sim.note("network", what),
            LinkConditions(latency_seconds),
        )
        self._hosts: dict[str, SimHost] = {}

    @property
    def simulated(self) -> bool:
        return True

    def host(self, name: str) -> SimHost:
        """A machine, to be crashed, paused and given another time; there is one of every name."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = SimHost(name, self)
        return host

    def disk(self, host: str) -> SimDisk:
        return self.host(host).disk

    def host_is_up(self, host: str) -> bool:
        return host not in self._hosts or self._hosts[host].up

    async def until_host_up(self, host: str) -> None:
        if host in self._hosts:
            await self._hosts[host].until_up()

    def pause_host(self, name: str) -> None:
        """See `SimHost.pause`."""
        if name not in self._sim.paused:
            self._sim.paused[name] = []
            self._sim.note("host", f"{name} paused")

    def resume_host(self, name: str) -> None:
        """See `SimHost.resume`."""
        if name in self._sim.paused:
            self._sim.resume(name)
            self._sim.note("host", f"{name} resumed")

    def host_paused(self, name: str) -> bool:
        """See `SimHost.paused`."""
        return name in self._sim.paused

    def true_seconds(self) -> float:
        """The virtual time, whatever the clock of a host says."""
        return self._sim.clock.seconds

    def use_clock(self, host: str, clock: HostClock) -> None:
        """Let a host's actors go by this clock."""
        self._sim.clocks[host] = clock

    @property
    def steps(self) -> int:
        """Turns taken so far."""
        return self._sim.steps

    def now(self) -> datetime:
        clock = self._sim.clocks.get(host_here() or "")
        return wall_clock(EPOCH, self.monotonic() + (0.0 if clock is None else clock.offset_seconds))

    def trace_hash(self) -> str:
        """A digest of every turn of the run so far."""
        return self._sim.trace_hash()

    async def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        await self._sim.settle()

    def ready_turns(self) -> "list[Resume | Timer]":
        """Who is ready to take a turn, oldest first: for schedules and searches that look at them."""
        return list(self._sim._ready)

    def waiting_labels(self) -> list[str]:
        """Who waits for what, and what is due when; sorted."""
        timers = [f"{due:.9f} {timer.label}" for due, _, timer in self._sim._heap.live()]
        return sorted([*(waiter.label for waiter in self._sim._parked), *timers])

    def run(self, main: Callable[["SimWorld"], Awaitable[T]]) -> T:
        """Run `main` to its end in virtual time; returns its result.

        Raises:
            SimulationDeadlock: nothing was left that could ever run.
            SimulationTooLong: `turns_max` was reached.
            UnscheduledStep: a task was woken by a thread, a socket or a process.
            Exception: what `main` raised, or the action of a timer.
        """
        outcome: list[Outcome[T]] = []

        async def root(run: VirtualRun) -> None:
            outcome.append(await acapture(self.run_inside, main, run))

        run_in_virtual_time(root)
        return outcome[0].unwrap()

    async def run_inside(
        self, main: Callable[["SimWorld"], Awaitable[T]], run: VirtualRun, *, guarded: bool = True
    ) -> T:
        """`run`, within the main task of a Trio run in virtual time whose clock is set to 0.

        An unguarded run does not notice by itself when a task is woken from outside.
        """
        sim = self._sim
        assert run.clock.seconds == 0.0 and not sim.steps, "a world is one run"
        sim.clock = run.clock
        outcome: Outcome[T] = Error(SimulationOver("the simulation was cut short"))
        main_scope = trio.CancelScope()
        sim.cut_short = main_scope.cancel
        guard = TurnGuard(sim)
        if guarded:
            trio.lowlevel.add_instrument(guard)
        try:
            with run.driven(sim.take_turn, rare_polls=not guarded):
                try:
                    with main_scope:
                        await sim.turn("main")
                        outcome = Value(await main(self))
                except BaseException as error:
                    outcome = Error(error)
            await sim.come_to_rest()
        finally:
            if guarded:
                trio.lowlevel.remove_instrument(guard)
        if sim.failure is not None:
            raise sim.failure
        return outcome.unwrap()
