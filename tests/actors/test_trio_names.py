"""Trio's private names, as `actors/_trio.py` uses them: fails when Trio moves or changes one."""

import random

import trio
from outcome import Value
from trio._core import _run

from understudy.actors import _trio


def test_the_names_exist() -> None:
    assert isinstance(_run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(_run._r, random.Random)
    assert hasattr(_run, "GLOBAL_RUN_CONTEXT")


def test_a_batch_runs_in_the_order_of_creation() -> None:
    ran: list[str] = []

    async def main() -> None:
        saved = _run._r
        with _trio.pinned_batch_order():
            gate = trio.Event()

            async def child(name: str) -> None:
                await gate.wait()
                ran.append(name)
                await trio.lowlevel.checkpoint()
                ran.append(name)

            async with trio.open_nursery() as nursery:
                for name in "abcdefgh":
                    nursery.start_soon(child, name)
                await _trio.yield_to_others()
                await _trio.yield_to_others()
                gate.set()
                assert len(_trio.runnable_tasks()) == 8
                await _trio.yield_to_others()
                assert ran == [], "this task is the oldest, and came first"
                await _trio.yield_to_others()
                assert "".join(ran) == "abcdefgh"
                await _trio.yield_to_others()
                assert "".join(ran) == "abcdefgh" * 2
                assert len(_trio.runnable_tasks()) == 0
        assert _run._r is saved

    trio.run(main)


def test_tasks_are_numbered_in_the_order_of_their_creation() -> None:
    numbers: list[int] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(child)
            tasks = sorted(nursery.child_tasks, key=_trio.creation_order)
            assert [_trio.creation_order(t) for t in tasks] == list(
                range(_trio.creation_order(tasks[0]), _trio.creation_order(tasks[0]) + 5)
            )

    async def child() -> None:
        numbers.append(_trio.creation_order(trio.lowlevel.current_task()))

    trio.run(main)
    assert len(set(numbers)) == 5


def test_the_next_deadline_is_known() -> None:
    async def main() -> None:
        assert _trio.next_deadline() == float("inf")
        with trio.CancelScope(deadline=trio.current_time() + 50.0) as scope:
            await trio.lowlevel.checkpoint()
            assert _trio.next_deadline() == scope.deadline
        assert _trio.next_deadline() == float("inf")

    trio.run(main)


def test_wake_ups_from_outside_are_told_from_those_by_tasks_and_deadlines() -> None:
    outside: set[str] = set()
    inside: set[str] = set()

    class Watch(trio.abc.Instrument):
        def task_scheduled(self, task: trio.lowlevel.Task) -> None:
            (outside if _trio.woken_from_outside(task) else inside).add(task.name)

    async def main() -> None:
        trio.lowlevel.add_instrument(Watch())
        event = trio.Event()
        ours, theirs = trio.socket.socketpair()
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, lambda: None, name="thread")
                nursery.start_soon(ours.recv, 1, name="socket")
                nursery.start_soon(event.wait, name="event")
                nursery.start_soon(trio.sleep, 0.01, name="deadline")
                await trio.lowlevel.checkpoint()
                event.set()
                await trio.sleep(0.02)
                await theirs.send(b"x")

    trio.run(main)
    assert outside - {"<init>"} == {"thread", "socket"}
    assert {"event", "deadline"} <= inside


def test_living_tasks_are_counted() -> None:
    async def main() -> None:
        before = _trio.living_tasks()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            assert _trio.living_tasks() == before + 1
            nursery.cancel_scope.cancel()
        assert _trio.living_tasks() == before

    trio.run(main)


def test_with_rare_polls_what_comes_from_outside_is_still_seen_and_noted() -> None:
    async def main() -> None:
        passes = _trio.watch_passes()
        for _ in range(200):
            await _trio.yield_to_others()
        assert not passes.events_seen
        assert await trio.to_thread.run_sync(lambda: 7) == 7
        assert passes.events_seen

    trio.run(main)


def test_somebody_is_called_before_each_pass_and_may_make_tasks_runnable() -> None:
    async def main() -> int:
        passes, task, calls = _trio.watch_passes(), trio.lowlevel.current_task(), 0

        def before() -> bool:
            nonlocal calls
            calls += 1
            if not _trio.runnable_tasks():
                trio.lowlevel.reschedule(task)
            return True

        passes.before = before
        for _ in range(10):
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
        for _ in range(10):
            await _trio.yield_to_others()
        passes.before = None
        await _trio.yield_to_others()
        return calls

    assert trio.run(main) == 20


def test_a_task_takes_a_step_between_two_passes() -> None:
    """To its next wait, to its end, or to its failure; as itself, and with what it was sent."""

    async def main() -> list[object]:
        passes, seen = _trio.watch_passes(), []
        tasks: list[trio.lowlevel.Task] = []
        steps = [Value(n) for n in range(4)]

        async def stepped() -> None:
            me = trio.lowlevel.current_task()
            tasks.append(me)
            for _ in range(2):
                seen.append((await _trio.wait_to_lend(lambda _: trio.lowlevel.Abort.SUCCEEDED)).unwrap())
                assert trio.lowlevel.current_task() is me
            await _trio.yield_to_others()
            seen.append("in a pass")
            with trio.CancelScope() as scope:
                scope.cancel()
                await trio.sleep_forever()
            await _trio.wait_to_lend(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            raise KeyError("its end")

        def before() -> bool:
            while not _trio.runnable_tasks():
                _trio.step(tasks[0], steps.pop(0))
            return True

        passes.before = before
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stepped)
                await trio.sleep_forever()
        except* KeyError:
            seen.append("failed")
        passes.before = None
        return seen

    assert trio.run(main) == [0, 1, "in a pass", "failed"]


def test_a_coroutine_begins_in_a_waiting_tasks_name() -> None:
    async def main() -> list[object]:
        seen: list[object] = []
        waiting = trio.Event()

        async def handler() -> str:
            seen.append(trio.lowlevel.current_task().name)
            with trio.move_on_after(0.001):
                await trio.sleep_forever()
            seen.append(trio.lowlevel.current_task().name)
            return "result"

        async def lender() -> None:
            waiting.set()
            outcome = await _trio.wait_to_lend(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            seen.append(await _trio.carry_on(begun, outcome))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lender, name="lender")
            await waiting.wait()
            task = next(iter(nursery.child_tasks))
            begun = handler()
            assert not _trio.begin_as(task, begun)
            assert trio.lowlevel.current_task() is not task
        return seen

    assert trio.run(main) == ["lender", "lender", "result"]


def test_without_instruments_there_are_none_and_then_there_are_again() -> None:
    steps: list[str] = []

    class Counter(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            steps.append(task.name)

    async def main() -> None:
        await _trio.yield_to_others()
        seen = len(steps)
        assert seen
        with _trio.without_instruments():
            await _trio.yield_to_others()
            assert len(steps) == seen
        await _trio.yield_to_others()
        assert len(steps) > seen

    trio.run(main, instruments=[Counter()])
