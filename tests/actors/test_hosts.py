"""Hosts that crash, pause and tell the wrong time, and what others notice of it."""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import (
    TEMPORARY,
    Actor,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    ChannelWriter,
    HostUnreachable,
    Ref,
    Shuffled,
    SimWorld,
    handles,
)
from understudy.actors.plan import Plan
from understudy.actors.sim_disk import SimDisk
from understudy.actors.simrun import Job, run_once
from understudy.actors.strategies import plans
from understudy.actors.testkit import Probe, simulate, status
from understudy.mailbox import ChannelClosed, Message, Request, message


class Keeping:
    """Protocol of the test."""


@message("hosts.put")
@frozen
class Put(Request[Keeping, int]):
    text: str


@message("hosts.get")
@frozen
class Get(Request[Keeping, str]):
    pass


@message("hosts.note")
@frozen
class Note(Message[Keeping]):
    number: int


@message("hosts.tick")
@frozen
class Tick(Message[Keeping]):
    pass


@message("hosts.clock")
@frozen
class Clock(Request[Keeping, str]):
    pass


@message("hosts.nap")
@frozen
class Nap(Request[Keeping, float]):
    seconds: float


@message("hosts.stream")
@frozen
class Stream(Request[Keeping, None]):
    to: ChannelWriter[int]
    count: int


class Keeper(Actor[Keeping]):
    """Keeps what it is given on its host's disk; says so only once it is synced."""

    def __init__(self, events: list[str], child_host: str | None = None) -> None:
        self.events = events
        self.ticks = 0
        self.child_host = child_host

    async def on_start(self) -> None:
        self.events.append(f"start {self.context.host}")
        disk = self.context.disk
        self.text = (await disk.read_file("text")).decode() if await disk.exists("text") else ""
        self.context.set_timer("tick", 1.0, Tick(), every_seconds=1.0)

    async def on_stop(self) -> None:
        self.events.append("stop hook")

    @handles(Tick)
    def tick(self, _: Tick) -> None:
        self.ticks += 1
        self.events.append(f"tick {self.ticks}")

    @handles(Put)
    async def put(self, put: Put) -> int:
        self.text += put.text
        await self.context.disk.replace_file("text", self.text.encode())
        return len(self.text)

    @handles(Get)
    def get(self, _: Get) -> str:
        return self.text

    @handles(Note)
    def note(self, note: Note) -> None:
        self.events.append(f"note {note.number}")

    @handles(Clock)
    def clock(self, _: Clock) -> str:
        return f"{self.world.now_text()} {self.world.monotonic():.3f}"

    @handles(Nap, concurrent=True)
    async def nap(self, nap: Nap) -> float:
        before = self.world.monotonic()
        try:
            await self.world.sleep(nap.seconds)
        except BaseException:
            self.events.append("nap cancelled")
            raise
        return self.world.monotonic() - before

    @handles(Stream)
    def stream(self, stream: Stream) -> None:
        self.context.adopt(stream.to)
        self.context.start_soon(self.write, stream)

    async def write(self, stream: Stream) -> None:
        for number in range(stream.count):
            await stream.to.send(number)
            await self.world.sleep(0.1)
        stream.to.close()


class Bench:
    def __init__(self, world: SimWorld, system: ActorSystem) -> None:
        self.world, self.system = world, system
        self.events: list[str] = []
        self.host = world.host("away")
        self.keeper: Ref[Keeping] = system.spawn(lambda: Keeper(self.events), "keeper", host="away")


def run(scenario: Callable[[Bench], Awaitable[Any]], seed: int = 0, schedule: Shuffled | None = None) -> Any:
    async def main(world: SimWorld) -> Any:
        async with ActorSystem.open(world) as system:
            return await scenario(Bench(world, system))

    return SimWorld(seed, schedule).run(main)


# -- crash and restart


def test_a_crash_is_silent_and_a_restart_begins_with_the_disk() -> None:
    async def scenario(b: Bench) -> None:
        assert await b.keeper.ask(Put("kept")) == 4
        b.host.crash()
        b.events.clear()
        with pytest.raises(AskTimeout):
            await b.keeper.ask(Get(), timeout_seconds=3.0)
        assert b.events == [], "no stop hook, no timer"
        now = status(b.system, b.keeper)
        assert now is not None and now.state == "backing off"
        b.host.restart()
        assert await b.keeper.ask(Get()) == "kept"
        assert b.events == ["start away"]
        now = status(b.system, b.keeper)
        assert now is not None and (now.incarnation, now.restarts) == (2, 1)

    run(scenario)


def test_what_waited_in_the_mailbox_and_what_was_in_the_air_is_gone() -> None:
    async def scenario(b: Bench) -> None:
        await b.keeper.ask(Get())
        b.host.pause()
        for number in range(5):
            b.keeper.tell(Note(number))
        await b.world.sleep(0.1)
        b.keeper.tell(Note(5))
        b.host.crash()
        b.host.restart()
        await b.world.sleep(1e-9)
        b.keeper.tell(Note(6))
        await b.world.sleep(0.5)
        # The last two were in the air while the host was off for no time at all.
        assert [event for event in b.events if "note" in event] == ["note 5", "note 6"]

    run(scenario)


def test_children_die_with_the_host_and_temporary_actors_stay_dead() -> None:
    class Parent(Actor[Keeping]):
        async def on_start(self) -> None:
            self.context.spawn(lambda: Keeper(events), "child")

    events: list[str] = []

    async def scenario(b: Bench) -> None:
        once = b.system.spawn(lambda: Keeper([]), "once", TEMPORARY, host="away")
        b.system.spawn(Parent, "parent", host="away")
        child = b.system.ref("/parent/child")
        await b.world.sleep(0.1)
        assert await child.ask(Get()) == ""
        b.host.crash()
        await b.world.sleep(0.1)
        assert not b.system.is_alive(child) and not b.system.is_alive(once)
        with pytest.raises(AskTimeout):
            await once.ask(Get(), timeout_seconds=1.0)
        b.host.restart()
        await b.world.sleep(0.1)
        assert await child.ask(Get()) == ""
        assert events == ["start away"] * 2
        with pytest.raises(ActorStopped):
            await once.ask(Get())

    run(scenario)


def test_an_actor_spawned_on_a_host_without_power_starts_with_it() -> None:
    async def scenario(b: Bench) -> None:
        b.world.host("dark").crash()
        late = b.system.spawn(lambda: Keeper(b.events), "late", host="dark")
        await b.world.sleep(1.0)
        assert "start dark" not in b.events
        b.world.host("dark").restart()
        assert await late.ask(Get()) == ""
        b.world.host("dark").crash()
        await b.system.stop(late)
        assert not b.system.is_alive(late)

    run(scenario)


def test_watchers_elsewhere_hear_of_a_crash_when_the_session_breaks() -> None:
    async def scenario(b: Bench) -> None:
        probe: Probe[Any] = Probe(b.system)
        await probe.watch(b.keeper)
        await b.keeper.ask(Get())
        b.host.crash()
        await probe.expect_none(9.0)
        terminated = await probe.expect_terminated(b.keeper, within_seconds=2.0)
        assert terminated.incarnation == 1 and not terminated.final
        assert "HostUnreachable" in str(terminated.reason)
        b.host.restart()
        await b.keeper.ask(Get())
        # The watch goes on, and a quick restart is noticed at once.
        b.host.crash()
        b.host.restart()
        terminated = await probe.expect_terminated(b.keeper, within_seconds=0.1)
        assert terminated.incarnation == 2

    run(scenario)


def test_channels_end_when_the_session_breaks_after_what_came_before() -> None:
    async def scenario(b: Bench) -> None:
        writer, reader = b.system.channel("numbers", 4)
        await b.keeper.ask(Stream(writer, 100))
        got = [await reader.receive() for _ in range(5)]
        b.host.crash()
        at = b.world.monotonic()
        with pytest.raises(HostUnreachable):
            while True:
                got.append(await reader.receive())
        assert got == list(range(len(got))) and len(got) in (5, 6)
        assert 9.0 < b.world.monotonic() - at < 11.0

    run(scenario)


def test_work_for_an_asker_whose_host_crashed_is_cancelled_when_the_session_breaks() -> None:
    class Asker(Actor[Keeping]):
        @handles(Note)
        async def note(self, _: Note) -> None:
            await keeper[0].ask(Nap(60.0), timeout_seconds=100.0)

    keeper: list[Ref[Keeping]] = []

    async def scenario(b: Bench) -> None:
        keeper.append(b.keeper)
        asker = b.system.spawn(Asker, "asker", TEMPORARY, host="third")
        asker.tell(Note(0))
        await b.world.sleep(1.0)
        b.world.host("third").crash()
        await b.world.sleep(9.0)
        assert "nap cancelled" not in b.events
        await b.world.sleep(2.0)
        assert "nap cancelled" in b.events

    run(scenario)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1 << 20),
    st.lists(st.tuples(st.floats(0.0, 0.3), st.floats(0.0, 0.2)), max_size=4),
)
def test_what_was_acknowledged_survives_every_crash(seed: int, crashes: list[tuple[float, float]]) -> None:
    async def scenario(b: Bench) -> None:
        b.host.disk.faults.sync_seconds = 0.01
        acknowledged = []

        async def write() -> None:
            for letter in "abcdefghij":
                try:
                    await b.keeper.ask(Put(letter), timeout_seconds=0.1)
                except AskTimeout:
                    continue
                acknowledged.append(letter)

        async with b.world.nursery() as nursery:
            nursery.start_soon(write)
            for up, down in crashes:
                await b.world.sleep(up)
                b.host.crash()
                await b.world.sleep(down)
                b.host.restart()
        kept = await b.keeper.ask(Get())
        assert [letter for letter in kept if letter in acknowledged] == acknowledged

    run(scenario, seed, Shuffled(seed))


# -- pause, clocks


def test_a_paused_host_does_nothing_and_then_everything() -> None:
    async def scenario(b: Bench) -> None:
        await b.keeper.ask(Get())
        b.host.pause()
        assert b.host.paused
        b.events.clear()
        for number in range(3):
            b.keeper.tell(Note(number))
        with pytest.raises(AskTimeout):
            await b.keeper.ask(Get(), timeout_seconds=5.0)
        assert b.events == []
        b.host.resume()
        assert await b.keeper.ask(Get()) == ""
        assert [e for e in b.events if "note" in e] == ["note 0", "note 1", "note 2"]
        # A periodic timer that was due meanwhile is late once, and not made up for.
        assert [e for e in b.events if "tick" in e] == ["tick 1"]
        await b.world.sleep(2.0)
        assert b.events[-1] == "tick 3"

    run(scenario)


def test_a_periodic_timer_that_is_late_keeps_its_phase() -> None:
    async def scenario(b: Bench) -> None:
        await b.keeper.ask(Get())
        b.events.clear()
        at = {}
        await b.world.sleep(2.5)
        b.host.pause()
        await b.world.sleep(0.7)
        b.host.resume()
        for tenth in range(33, 55):
            await b.world.sleep(tenth / 10 - b.world.monotonic())
            at[tenth] = len(b.events)
        assert (at[33], at[39], at[41], at[49], at[51]) == (3, 3, 4, 4, 5), "3.2 s, 4 s, 5 s: no drift"

    run(scenario)


def test_clocks_are_off_by_offset_and_drift_and_timers_go_by_them() -> None:
    async def scenario(b: Bench) -> None:
        other = b.system.spawn(lambda: Keeper([]), "other", host="other")
        b.host.set_offset(3600.0)
        assert (await b.keeper.ask(Clock())).startswith("2026-01-01T01:00:00Z 0.0")
        assert (await other.ask(Clock())).startswith("2026-01-01T00:00:00Z 0.0")
        b.host.set_drift(1.0)
        before = b.world.monotonic()
        assert await b.keeper.ask(Nap(10.0), timeout_seconds=60.0) == pytest.approx(10.0)
        assert b.world.monotonic() - before == pytest.approx(5.0, abs=0.01)
        assert len([e for e in b.events if "tick" in e]) == 10, "ten of its seconds"
        assert await other.ask(Nap(10.0), timeout_seconds=60.0) == pytest.approx(10.0)
        # 15 seconds are 30 there; nothing jumps when the clock is set right.
        assert (await b.keeper.ask(Clock())).startswith("2026-01-01T01:00:30Z 30.0")
        b.host.set_drift(0.0)
        assert (await b.keeper.ask(Clock())).startswith("2026-01-01T01:00:30Z 30.0")

    run(scenario)


def test_each_host_has_a_disk_of_its_own_and_actors_find_theirs() -> None:
    async def scenario(b: Bench) -> None:
        await b.keeper.ask(Put("x"))
        assert isinstance(b.world.disk("away"), SimDisk)
        assert await b.world.disk("away").list() == ["text"]
        assert await b.world.disk("other").list() == []

    run(scenario)


def test_a_writer_learns_that_its_reader_is_unreachable() -> None:
    async def scenario(b: Bench) -> None:
        away = b.system.channel("away reads", 2, "away")[0]
        # The writer is here, and the reader's host goes.
        away._core.writer_host = "local"
        b.host.crash()
        with pytest.raises(ChannelClosed):
            while True:
                await away.send(1)

    run(scenario)


async def everything_goes_wrong(system: ActorSystem) -> str:
    world = system.world
    assert isinstance(world, SimWorld)
    b = Bench(world, system)
    world.network.default.loss = 0.2
    world.network.default.jitter_seconds = 0.01
    b.host.disk.faults.sync_error_chance = 0.1
    for number in range(4):
        b.keeper.tell(Note(number))
        try:
            await b.keeper.ask(Put("x"), timeout_seconds=0.2)
        except Exception as error:
            b.events.append(type(error).__name__)
        b.host.crash()
        b.host.restart()
    await world.sleep(1.0)
    return str(b.events)


@given(st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_runs_with_crashes_repeat(seed: int) -> None:
    plan = Plan(seed, skips={seed: 1}, holds={seed // 2: 3}, crashes={seed: "away", seed + 5: "/keeper"})
    one = run_once(everything_goes_wrong, Job(plan))
    two = run_once(everything_goes_wrong, Job(plan))
    assert one.unwrap() == two.unwrap() and one.trace_hash == two.trace_hash


def test_runs_with_crashes_repeat_in_any_process() -> None:
    code = (
        "import importlib.util as u\n"
        f"spec = u.spec_from_file_location('hosts', {__file__!r})\n"
        "module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "plan = module.Plan(5, {9: 1}, {4: 3}, {12: 'away'})\n"
        "print(module.run_once(module.everything_goes_wrong, module.Job(plan)).trace_hash)\n"
    )
    seen = set()
    for hash_seed in ("0", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        seen.add(done.stdout)
    assert len(seen) == 1 and len(seen.pop()) > 30


@settings(max_examples=40, deadline=None)
@given(st.text("abc", min_size=1, max_size=4), plans(turns_max=40, crash_paths=["away"]))
def test_what_was_acknowledged_survives_whatever_plan(text: str, plan: Plan) -> None:
    async def scenario(system: ActorSystem) -> None:
        assert isinstance(system.world, SimWorld)
        b = Bench(system.world, system)
        acknowledged = ""
        for letter in text:
            try:
                await b.keeper.ask(Put(letter), timeout_seconds=0.5)
                acknowledged += letter
            except AskTimeout:
                pass
        await b.world.sleep(1.0)
        text_kept = ""
        for _ in range(3):
            # A crash may hit this one as well; there are at most two.
            try:
                text_kept = await b.keeper.ask(Get(), timeout_seconds=1.0)
                break
            except AskTimeout:
                pass
        rest = iter(text_kept)
        assert all(letter in rest for letter in acknowledged), "an acknowledged letter is lost"

    simulate(scenario, plan)
