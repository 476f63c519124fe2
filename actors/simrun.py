"""Runs of one scenario under many plans, in one Trio run, as long as each leaves nothing behind.

Starting Trio costs more than a small run does. So runs follow one another inside one Trio run: each has its
own world and system, starts at virtual time 0, and is over only when every task that it started has ended.
When some task will not, that Trio run is given up and the next run gets a fresh one.

What a scenario keeps outside its own function (module globals, say) is not reset: it has no business there.
"""

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen
from outcome import Error, Outcome, acapture

from . import _trio
from .plan import InjectedCrash, Plan, Planned
from .ref import Ref
from .schedule import Fifo, Schedule
from .sim import SimWorld
from .system import ActorSystem
from .virtual_time import VirtualRun, run_in_virtual_time

T = TypeVar("T")
R = TypeVar("R")

Scenario = Callable[[ActorSystem], Awaitable[T]]
"""What is run: it spawns actors, drives them and asserts; its world is `system.world`."""

TURNS_MAX = 100_000
"""Turns of a scenario's run unless told otherwise."""

PASSES_MAX = 1_000
"""Passes of Trio's loop that what is left of a run may take to end."""


@frozen
class RunResult(Generic[T]):
    """How one run went."""

    plan: Plan
    """Repeats the run, whatever order it was made with; deviations that had no effect are left out."""
    outcome: Outcome[T]
    turns: int
    trace_hash: str
    widths: dict[int, int] = field(repr=False)
    """At each turn of the scenario where there was a choice: how many were ready."""

    @property
    def error(self) -> Exception | None:
        """What the scenario failed with, or None. Interrupts are raised at once, never kept."""
        error = self.outcome.error if isinstance(self.outcome, Error) else None
        assert error is None or isinstance(error, Exception), error
        return error

    def unwrap(self) -> T:
        """What the scenario returned; raises what it failed with."""
        return self.outcome.unwrap()


@frozen
class Situation:
    """A run at the moment before a chosen turn is taken."""

    world: SimWorld
    system: ActorSystem | None
    """None until the scenario's system is open."""
    step: int
    chosen: int
    """Index in the ready set."""


@frozen
class Job:
    """A run that a search wants made."""

    plan: Plan
    order: Callable[[SimWorld], Schedule] | None = None
    """Makes the run's schedule; None: first come, first served, but for the plan's deviations."""
    observe: Callable[[int, float, str], None] | None = None
    """Called with step, virtual time and text of everything that the trace holds."""
    before_turn: Callable[[Situation], None] | None = None
    """Called before each turn, when it has been chosen."""


Search = Generator[Job, RunResult[T], R]
"""Something that asks for runs, one after the other, and ends with a result."""


HOST_DOWN_SECONDS = 0.1
"""How long a host that a plan crashes is without power."""


@define(eq=False)
class _Recorder:
    """A schedule that follows another one, carries out the plan's crashes and notes what was chosen."""

    job: Job
    world: SimWorld | None = None
    order: Schedule = field(factory=Fifo)
    skips: dict[int, int] = field(factory=dict)
    widths: dict[int, int] = field(factory=dict)
    system: ActorSystem | None = None
    """The scenario's system, once it is open."""
    over: bool = False
    """The scenario has ended: its system shuts down first come, first served."""

    def choose(self, step: int, ready: int) -> int:
        job = self.job
        crashing = job.plan.crashes.get(step) if job.plan.crashes else None
        if crashing is not None and self.system is not None:
            self._crash(crashing, step, self.system)
        index = 0
        if not self.over:
            index = self.order.choose(step, ready)
            if ready > 1:
                self.widths[step] = ready
            if index:
                self.skips[step] = index
        if job.before_turn is not None:
            assert self.world is not None
            job.before_turn(Situation(self.world, self.system, step, index))
        return index

    def _crash(self, what: str, step: int, system: ActorSystem) -> None:
        assert self.world is not None
        if what.startswith("/"):
            system.crash(Ref(what, system), InjectedCrash(f"before turn {step}"))
        else:
            host = self.world.host(what)
            host.crash()
            self.world.call_later(HOST_DOWN_SECONDS, host.restart, f"{what} restarts")


async def _run_here(
    scenario: Scenario[T], job: Job, run: VirtualRun, turns_max: int, guarded: bool
) -> RunResult[T]:
    run.clock.seconds = 0.0
    recorder = _Recorder(job)
    world = SimWorld(job.plan.seed, recorder, turns_max=turns_max, observe=job.observe)
    recorder.world = world
    planned = Planned(job.plan)
    recorder.order = planned if job.order is None else job.order(world)

    async def main(_: SimWorld) -> T:
        async with ActorSystem.open(world) as system:
            recorder.system = system
            try:
                return await scenario(system)
            finally:
                recorder.over = True

    outcome: Outcome[T] = await acapture(partial(world.run_inside, main, run, guarded=guarded))
    if isinstance(outcome, Error) and not isinstance(outcome.error, Exception):
        raise outcome.error
    if job.order is None:
        plan = Plan(job.plan.seed, planned.skips, planned.holds, job.plan.crashes)
    else:
        plan = Plan(job.plan.seed, recorder.skips, {}, job.plan.crashes)
    return RunResult(plan, outcome, world.steps, world.trace_hash(), recorder.widths)


def run_search(scenario: Scenario[T], search: "Search[T, R]", *, turns_max: int = TURNS_MAX) -> R:
    """Make the runs that `search` asks for, and return what it ends with."""
    result: RunResult[T] | None = None
    ended: list[R] = []

    async def runs(run: VirtualRun) -> None:
        """Until the search ends, or a run leaves a task behind."""
        nonlocal result
        at_rest = _trio.living_tasks()
        while True:
            try:
                job = next(search) if result is None else search.send(result)
            except StopIteration as stop:
                ended.append(stop.value)
                return
            run.passes.events_seen = False
            with _trio.without_instruments():
                result = await _run_here(scenario, job, run, turns_max, guarded=False)
            if run.passes.events_seen:
                # Something came from outside. Whether it woke anybody, a guarded run tells.
                result = await _run_here(scenario, job, run, turns_max, guarded=True)
            passes = 0
            while _trio.living_tasks() > at_rest:
                if passes >= PASSES_MAX:
                    return
                passes += 1
                await _trio.yield_to_others()

    while not ended:
        run_in_virtual_time(runs)
    return ended[0]


def run_once(scenario: Scenario[T], job: Job, *, turns_max: int = TURNS_MAX) -> RunResult[T]:
    """Make one run."""

    def once() -> Generator[Job, RunResult[Any], RunResult[Any]]:
        return (yield job)

    return run_search(scenario, once(), turns_max=turns_max)
