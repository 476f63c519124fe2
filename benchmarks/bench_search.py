"""How fast small systems are run under many orders of turns, and how soon a planted race is found.

python benchmarks/bench_search.py [--quick]

The small system is an account and two tasks that add one to it, each by reading first: an update is lost in
some orders. The peer runs the same race as bare Trio tasks, one Trio run a schedule, with Trio's own seeded
order of tasks: no actors, no virtual time, no trace, and nobody can overtake by more than one step. Rounds
alternate, and the best of each is shown.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import trio
import trio._core._run
from attrs import evolve, frozen

from understudy.actors import Actor, ActorSystem, handles
from understudy.actors.exploration import Exploration
from understudy.actors.search import Delays, Exhaustive, Finding, Priorities, Random, search
from understudy.mailbox import Request, message

sys.path.insert(0, str(Path(__file__).parent))
from rows import Row, compared, report

REACH_A_SECOND = 2_000
REACH_DEVIATIONS = 5


class Bank:
    """Protocol of an account that is read first and written later."""


@message("bench.search.read")
@frozen
class Read(Request[Bank, int]):
    pass


@message("bench.search.write")
@frozen
class Write(Request[Bank, None]):
    balance: int


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


async def lost_update(system: ActorSystem) -> int:
    """Two tasks increment without a lock; returns 1 or 2."""
    account = system.spawn(Account, "account")

    async def increment() -> None:
        await account.ask(Write(await account.ask(Read()) + 1))

    async with system.world.nursery() as nursery:
        nursery.start_soon(increment, name="one")
        nursery.start_soon(increment, name="two")
    return await account.ask(Read())


class Lost(AssertionError):
    """The race was seen."""


async def planted(system: ActorSystem) -> None:
    """Three steps must fall between others', each of which comes first or last in the plain order."""
    account = system.spawn(Account, "account")
    audited: list[int] = []

    async def fee() -> None:
        await account.ask(Write(await account.ask(Read()) - 1))

    async def deposit() -> None:
        await account.ask(Read())
        await account.ask(Write(await account.ask(Read()) + 100))

    async def audit() -> None:
        audited.extend([await account.ask(Read()) for _ in range(4)])

    async with system.world.nursery() as nursery:
        for task in (fee, deposit, audit):
            nursery.start_soon(task, name=task.__name__)
    if audited[-1] == 100 and await account.ask(Read()) == -1:
        raise Lost("the deposit was audited and is lost")


def bare_trio(schedules: int) -> None:
    """The lost update without actors, one Trio run each, in orders that Trio draws from a seed."""
    names = trio._core._run
    saved = names._ALLOW_DETERMINISTIC_SCHEDULING, names._r
    names._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    try:
        for seed in range(schedules):
            names._r = random.Random(seed)  # type: ignore[misc]
            trio.run(_bare_race)
    finally:
        names._ALLOW_DETERMINISTIC_SCHEDULING, names._r = saved  # type: ignore[misc]


async def _bare_race() -> int:
    balance = 0

    async def increment() -> None:
        nonlocal balance
        await trio.lowlevel.checkpoint()
        seen = balance
        await trio.lowlevel.checkpoint()
        balance = seen + 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(increment)
        nursery.start_soon(increment)
    return balance


def rate(run: Callable[[], int]) -> float:
    """Schedules a second of process time: a machine that others use, too, slows the clock on the wall."""
    began = time.process_time()
    count = run()
    return count / (time.process_time() - began)


def speeds(schedules: int, rounds: int) -> list[Row]:
    """Schedules a second, each beside the bare Trio runs of the same rounds."""

    def searched(exploration: Exploration) -> Callable[[], int]:
        return lambda: search(lost_update, exploration, runs_max=schedules).runs

    def bare() -> int:
        bare_trio(schedules)
        return schedules

    contestants: dict[str, Callable[[], int]] = {
        "all orders": searched(Exhaustive()),
        "random orders": searched(Random()),
        "few delays": searched(Delays()),
        "priorities": searched(Priorities()),
    }
    best = dict.fromkeys(contestants, 0.0)
    peer = 0.0
    for _ in range(rounds):
        peer = max(peer, rate(bare))
        for name, run in contestants.items():
            best[name] = max(best[name], rate(run))
    rows = []
    for name, value in best.items():
        row = compared(name, value, "schedules/s", "bare Trio run each", peer, less_is_better=False)
        rows.append(_held_to(row, f">= {REACH_A_SECOND:,}/s", value >= REACH_A_SECOND))
    return rows


def findings() -> list[Row]:
    """How many schedules until the planted race is seen, and how few deviations are left of it."""
    rows = []
    for exploration in (Random(), Delays(), Priorities()):
        name = type(exploration).__name__
        began = time.process_time()
        finding: Finding = search(planted, exploration, runs_max=50_000)
        seconds = time.process_time() - began
        failure = finding.failure
        assert failure is not None and isinstance(failure.error, Lost), f"{name} has not found the race"
        rows.append(Row(f"race found by {name}", failure.found_after, "schedules"))
        shrunk = Row(f"  shrunk, by {name}", failure.plan.size, "deviations")
        reach = f"<= {REACH_DEVIATIONS}"
        rows.append(_held_to(shrunk, reach, failure.plan.size <= REACH_DEVIATIONS))
        rows.append(Row("  found, shrunk and explained in", seconds, "s of CPU"))
    return rows


def _held_to(row: Row, reach: str, met: bool) -> Row:
    return evolve(row, reach=reach, met=met)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the load")
    quick = parser.parse_args().quick
    report("search", speeds(*((300, 2) if quick else (3_000, 5))) + findings())
