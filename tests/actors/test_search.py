"""Searches find what is planted, shrink it to a few deviations, explain it, and repeat it anywhere."""

import os
import subprocess
import sys
from collections import Counter
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from attrs import frozen
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from understudy.actors import (
    Actor,
    ActorSystem,
    Deviations,
    Ref,
    Shuffled,
    SimulationDeadlock,
    SimWorld,
    handles,
)
from understudy.actors.search import Delays, Exhaustive, NotDeterministic, Plan, Priorities, Random, search
from understudy.actors.simrun import Job, RunResult, run_once, run_search
from understudy.actors.strategies import deviations, plans
from understudy.actors.testkit import simulate
from understudy.mailbox import Request, message


class Bank:
    """Protocol of the test."""


@message("search.read")
@frozen
class Read(Request[Bank, int]):
    pass


@message("search.write")
@frozen
class Write(Request[Bank, None]):
    balance: int


@message("search.audit")
@frozen
class Audit(Request[Bank, list[int]]):
    pass


class Account(Actor[Bank]):
    def __init__(self) -> None:
        self.balance = 0
        self.history: list[int] = []

    @handles(Read)
    def read(self, message: Read) -> int:
        return self.balance

    @handles(Write)
    def write(self, message: Write) -> None:
        self.balance = message.balance
        self.history.append(message.balance)

    @handles(Audit)
    def audit(self, message: Audit) -> list[int]:
        return list(self.history)


class LostUpdate(AssertionError):
    pass


async def three_step_race(system: ActorSystem) -> None:
    """Fails only when the deposit lands between the fee's read and write, and the audit between those two.

    First come, first served, the fee is done before the deposit begins, and the audit comes last.
    """
    world = system.world
    account = system.spawn(Account, "account")
    seen: list[list[int]] = []

    async def fee() -> None:
        balance = await account.ask(Read())
        await account.ask(Write(balance - 1))

    async def deposit() -> None:
        await account.ask(Read())
        balance = await account.ask(Read())
        await account.ask(Write(balance + 100))

    async def audit() -> None:
        for _ in range(3):
            await account.ask(Read())
        seen.append(await account.ask(Audit()))

    async with world.nursery() as nursery:
        nursery.start_soon(fee, name="fee")
        nursery.start_soon(deposit, name="deposit")
        nursery.start_soon(audit, name="audit")
    # The auditor saw the deposit alone, and afterwards it is gone.
    if seen == [[100]] and await account.ask(Read()) == -1:
        history = await account.ask(Audit())
        raise LostUpdate(f"the deposit was audited and lost: {history}")


async def small(system: ActorSystem) -> int:
    """Two tasks increment without a lock; returns 1 or 2."""
    account = system.spawn(Account, "account")

    async def increment() -> None:
        balance = await account.ask(Read())
        await account.ask(Write(balance + 1))

    async with system.world.nursery() as nursery:
        nursery.start_soon(increment, name="one")
        nursery.start_soon(increment, name="two")
    return await account.ask(Read())


EXPLORATIONS = [Exhaustive(), Exhaustive(prune=True), Random(), Delays(), Priorities()]


@pytest.mark.parametrize("exploration", [Delays(), Random(), Priorities()], ids=repr)
def test_a_planted_three_step_race_is_found_and_shrinks_to_at_most_five_deviations(exploration: Any) -> None:
    simulate(three_step_race)
    finding = search(three_step_race, exploration, runs_max=10_000)
    assert finding.failure is not None
    assert isinstance(finding.failure.error, LostUpdate)
    plan = finding.failure.plan
    assert 1 <= plan.size <= 5
    with pytest.raises(LostUpdate):
        simulate(three_step_race, plan)
    # None of its deviations can be left out.
    for step in plan.skips:
        simulate(three_step_race, Plan(0, {s: n for s, n in plan.skips.items() if s != step}, plan.holds))
    for step in plan.holds:
        simulate(three_step_race, Plan(0, plan.skips, {s: n for s, n in plan.holds.items() if s != step}))


def test_a_finding_explains_itself() -> None:
    finding = search(three_step_race, Random(seed=1))
    with pytest.raises(LostUpdate) as raised:
        finding.check()
    text = raised.value.__notes__[-1]
    assert finding.failure is not None
    assert f"simulate(scenario, {finding.failure.plan})" in text
    for step in (*finding.failure.plan.skips, *finding.failure.plan.holds):
        assert f" turn {step}, at" in text
    assert "went first although" in text or "was held back" in text
    assert "turn first come, first served" in text
    assert "/account search.audit" in text


def outcomes(exploration: Any, scenario: Any = small) -> tuple[Counter[Any], bool]:
    seen: Counter[Any] = Counter()
    finding = search(scenario, exploration, on_run=lambda run: seen.update([run.unwrap()]), runs_max=3000)
    return seen, finding.complete


def test_exhaustive_search_runs_every_order_once() -> None:
    plans_seen: Counter[str] = Counter()
    finding = search(small, Exhaustive(), on_run=lambda run: plans_seen.update([str(run.plan)]))
    assert finding.complete and finding.failure is None
    assert len(plans_seen) == finding.runs and set(plans_seen.values()) == {1}
    # Counted another way: depth first, by what each run had to choose from.
    assert count_orders(small) == finding.runs


def count_orders(scenario: Any) -> int:
    def walk() -> Any:
        count = 0
        pending: list[dict[int, int]] = [{}]
        while pending:
            skips = pending.pop()
            result = yield Job(Plan(skips={s: n for s, n in skips.items() if n}))
            count += 1
            for step in [s for s in result.widths if s > max(skips, default=-1)]:
                pending.extend({**skips, step: n} for n in range(1, result.widths[step]))
        return count

    counted = run_search(scenario, walk())
    assert isinstance(counted, int)
    return counted


def test_pruning_loses_no_outcome_and_saves_runs() -> None:
    every, complete = outcomes(Exhaustive())
    pruned, pruned_complete = outcomes(Exhaustive(prune=True))
    assert complete and pruned_complete
    assert set(every) == set(pruned) == {1, 2}
    assert pruned.total() * 2 < every.total()


@st.composite
def programs(draw: st.DrawFn) -> list[list[tuple[str, int]]]:
    """Two or three actors' scripts: each says to which account it writes what, or reads."""
    step = st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 2))
    return draw(st.lists(st.lists(step, min_size=1, max_size=2), min_size=2, max_size=2))


class Script(Actor[Bank]):
    """Adds up what it reads, and writes it."""

    def __init__(self, steps: list[tuple[str, int]], accounts: dict[str, Ref[Bank]]) -> None:
        self.steps, self.accounts = steps, accounts

    @handles(Audit)
    async def go(self, message: Audit) -> list[int]:
        seen: list[int] = []
        for name, amount in self.steps:
            if amount:
                await self.accounts[name].ask(Write(amount + sum(seen)))
            else:
                seen.append(await self.accounts[name].ask(Read()))
        return seen


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_pruning_loses_no_outcome_of_any_small_program(program: list[list[tuple[str, int]]]) -> None:
    async def scenario(system: ActorSystem) -> str:
        accounts = {name: system.spawn(Account, name) for name in ("x", "y")}
        scripts = [
            system.spawn(partial(Script, steps, accounts), f"script{n}") for n, steps in enumerate(program)
        ]
        results: dict[int, list[int]] = {}

        async def ask(number: int) -> None:
            results[number] = await scripts[number].ask(Audit())

        async with system.world.nursery() as nursery:
            for number in range(len(scripts)):
                nursery.start_soon(ask, number, name=f"ask{number}")
        return f"{sorted(results.items())} {[await a.ask(Audit()) for a in accounts.values()]}"

    every, _ = outcomes(Exhaustive(deviations_max=2), scenario)
    pruned, _ = outcomes(Exhaustive(deviations_max=2, prune=True), scenario)
    assert set(pruned) <= set(every) or pruned.total() < 3000
    assert set(every) <= set(pruned)


def test_a_deadlock_is_found() -> None:
    async def scenario(system: ActorSystem) -> None:
        event, flag = system.world.event("never"), []

        async def one() -> None:
            flag.append(1)

        async def two() -> None:
            if not flag:
                await event.wait()

        async with system.world.nursery() as nursery:
            nursery.start_soon(one, name="one")
            nursery.start_soon(two, name="two")

    simulate(scenario)
    finding = search(scenario)
    assert finding.failure is not None
    assert isinstance(finding.failure.error, SimulationDeadlock)
    assert finding.failure.plan.size == 1


def test_state_that_outlives_a_run_is_told() -> None:
    runs = []

    async def scenario(system: ActorSystem) -> None:
        runs.append(1)
        assert len(runs) != 3

    with pytest.raises(NotDeterministic, match="keep state between runs"):
        search(scenario, Random(), runs_max=10)


whose: ContextVar[str] = ContextVar("whose", default="nobody's")


def test_a_run_leaves_nothing_behind_for_the_next() -> None:
    """Failing, deadlocked and abandoned runs in between change nothing in a run of the same plan."""

    async def scenario(system: ActorSystem) -> str:
        account = system.spawn(Account, "account")
        world = system.world
        assert whose.get() == "nobody's"
        whose.set(f"run {world.seed}")
        kind = world.seed % 4
        if kind == 1:
            raise ValueError("fails")
        if kind == 2:
            await world.event("never").wait()
        if kind == 3:
            system.world.call_later(5.0, lambda: None)
            with world.limit(1.0):
                await world.event("never").wait()
        draws = [world.rng("a").random(), world.uuid()]
        balance = await account.ask(Read())
        return f"{draws} {world.now()} {balance} {system.statistics()}"

    def several() -> Any:
        hashes = []
        for seed in (0, 1, 0, 2, 0, 3, 0):
            result: RunResult[Any] = yield Job(Plan(seed))
            if seed == 0:
                hashes.append((result.trace_hash, result.unwrap(), result.turns))
        return hashes

    hashes = run_search(scenario, several())
    assert len(hashes) == 4 and len(set(hashes)) == 1
    alone = run_once(scenario, Job(Plan(0)))
    assert (alone.trace_hash, alone.unwrap(), alone.turns) == hashes[0]


@given(plans(turns_max=20))
@settings(max_examples=30, deadline=None)
def test_the_same_plan_has_the_same_hash_and_prints_itself(plan: Plan) -> None:
    once, again = run_once(small, Job(plan)), run_once(small, Job(plan))
    assert once.trace_hash == again.trace_hash
    # What came of it is a plan, too, of the same run, and so is what it prints.
    repeated = run_once(small, Job(eval(str(once.plan), {"Plan": Plan})))
    assert repeated.trace_hash == once.trace_hash and repeated.plan == once.plan


@given(deviations(turns_max=20))
@settings(max_examples=20, deadline=None)
def test_deviations_are_a_schedule_of_a_world_of_ones_own(schedule: Deviations) -> None:
    async def main(world: SimWorld) -> int:
        async with ActorSystem.open(world) as system:
            return await small(system)

    world = SimWorld(0, schedule)
    assert world.run(main) in (1, 2)


def test_the_same_plan_has_the_same_hash_in_fresh_processes_with_other_hash_seeds() -> None:
    code = (
        "import sys, importlib.util as u\n"
        f"spec = u.spec_from_file_location('race', {__file__!r})\n"
        "module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "finding = module.search(module.three_step_race, module.Random(seed=3))\n"
        "print(finding.runs, finding.failure.plan)\n"
        "print(module.run_once(module.three_step_race, module.Job(finding.failure.plan)).trace_hash)\n"
    )
    seen = set()
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        seen.add(done.stdout)
    assert len(seen) == 1, seen


def test_hypothesis_shrinks_payload_order_and_crashes_together() -> None:
    """A stock that forgets on a crash: the smallest example is one unit, one crash and no deviation."""

    class Stock(Actor[Bank]):
        balance = 0

        @handles(Write)
        def write(self, message: Write) -> None:
            self.balance += message.balance

        @handles(Read)
        def read(self, message: Read) -> int:
            return self.balance

    found: list[tuple[list[int], Plan]] = []

    @settings(
        max_examples=300,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.lists(st.integers(1, 50), max_size=5), plans(turns_max=25, crash_paths=["/stock"]))
    def nothing_is_lost(amounts: list[int], plan: Plan) -> None:
        async def scenario(system: ActorSystem) -> None:
            stock = system.spawn(Stock, "stock")
            for amount in amounts:
                await stock.ask(Write(amount))
            await system.world.sleep(1.0)
            total = await stock.ask(Read())
            if total != sum(amounts):
                found.append((amounts, plan))
                raise LostUpdate(f"{total} of {sum(amounts)}")

        simulate(scenario, plan)

    with pytest.raises(LostUpdate):
        nothing_is_lost()
    amounts, plan = found[-1]
    assert amounts == [1] and not plan.skips and not plan.holds and len(plan.crashes) == 1


def test_orders_that_are_given_to_a_run_come_out_as_its_plan() -> None:
    shuffled = run_once(small, Job(Plan(7), lambda _: Shuffled(11)))
    again = run_once(small, Job(shuffled.plan))
    assert shuffled.trace_hash == again.trace_hash
