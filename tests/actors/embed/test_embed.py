"""Actors inside asyncio and behind synchronous code: both ends of every cancellation."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen

from understudy.actors import Actor, ActorFailed, ActorSystem, AskTimeout, Ref, Supervision, handles
from understudy.actors.embed import (
    SystemEnded,
    ThreadPortal,
    asyncio_system,
    background_system,
)
from understudy.actors.supervision import RestartIntensityExceeded
from understudy.mailbox import Message, Request, message


class Tallying:
    """Protocol of the test's actor."""


@message("test.embed.add")
@frozen
class Add(Request[Tallying, int]):
    amount: int


@message("test.embed.wait")
@frozen
class Wait(Request[Tallying, None]):
    pass


@message("test.embed.break")
@frozen
class Break(Message[Tallying]):
    pass


@message("test.embed.fetch")
@frozen
class Fetch(Request[Tallying, str]):
    seconds: float


class Tally(Actor[Tallying]):
    def __init__(self, events: list[str], fetch: Callable[[float], Awaitable[str]] | None = None) -> None:
        self.total = 0
        self.events = events
        self.do_fetch = fetch

    async def on_stop(self) -> None:
        await self.world.sleep(0.001)
        self.events.append("stopped")

    @handles(Add)
    async def add(self, message: Add) -> int:
        self.total += message.amount
        return self.total

    @handles(Wait, concurrent=True)
    async def wait(self, message: Wait) -> None:
        self.events.append("waits")
        try:
            await self.world.sleep(1000)
        finally:
            self.events.append("waits no more")

    @handles(Break)
    def break_(self, message: Break) -> None:
        raise RuntimeError("broken on purpose")

    @handles(Fetch)
    async def fetch(self, message: Fetch) -> str:
        assert self.do_fetch is not None
        return await self.do_fetch(message.seconds)


ONCE = Supervision(restarts_max=0)


class Log(list[str]):
    """What happened, and a way to wait in asyncio until something has."""

    on_change: Callable[[], None] = staticmethod(lambda: None)

    def append(self, entry: str) -> None:
        super().append(entry)
        self.on_change()

    async def until(self, *expected: str) -> None:
        changed = asyncio.Event()
        self.on_change = changed.set
        async with asyncio.timeout(5):
            while self != [*expected]:
                await changed.wait()
                changed.clear()


def test_asyncio_tasks_tell_and_ask() -> None:
    events: list[str] = []

    async def main() -> list[int]:
        async with asyncio_system() as portal:
            ref: Ref[Tallying] = portal.spawn(lambda: Tally(events), "tally")
            portal.tell(ref, Add(10))
            return await asyncio.gather(*(portal.ask(ref, Add(1)) for _ in range(3)))

    assert sorted(asyncio.run(main())) == [11, 12, 13]
    assert events == ["stopped"]


def test_a_system_can_be_opened_again_in_the_same_loop() -> None:
    async def main() -> list[int]:
        totals = []
        for _ in range(3):
            async with asyncio_system() as portal:
                totals.append(await portal.ask(portal.spawn(lambda: Tally([]), "tally"), Add(1)))
        return totals

    assert asyncio.run(main()) == [1, 1, 1]


def test_deadlines_pass_while_only_asyncio_is_busy() -> None:
    async def main() -> None:
        async with asyncio_system() as portal:
            ref: Ref[Tallying] = portal.spawn(lambda: Tally([]), "tally")
            with pytest.raises(AskTimeout):
                await portal.ask(ref, Wait(), timeout_seconds=0.01)

    asyncio.run(main())


def test_a_cancelled_asyncio_task_cancels_the_work_that_it_asked_for() -> None:
    events = Log()

    async def main() -> None:
        async with asyncio_system() as portal:
            ref: Ref[Tallying] = portal.spawn(lambda: Tally(events), "tally")
            asking = asyncio.create_task(portal.ask(ref, Wait(), 100.0))
            await events.until("waits")
            asking.cancel()
            await events.until("waits", "waits no more")
            assert await portal.ask(ref, Add(1)) == 1, "the actor itself lives on"

    asyncio.run(main())


def test_cancelling_the_host_stops_every_actor() -> None:
    events: list[str] = []

    async def block(started: asyncio.Event) -> None:
        async with asyncio_system() as portal:
            portal.spawn(lambda: Tally(events), "tally")
            started.set()
            await asyncio.sleep(1000)

    async def main() -> None:
        started = asyncio.Event()
        task = asyncio.create_task(block(started))
        await started.wait()
        await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel("again, while the actors stop")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert events == ["stopped"]

    asyncio.run(main())


def test_a_failing_block_stops_every_actor() -> None:
    events: list[str] = []

    async def main() -> None:
        async with asyncio_system() as portal:
            ref = portal.spawn(lambda: Tally(events), "tally")
            await portal.ask(ref, Add(1))
            raise LookupError("the block's own")

    with pytest.raises(LookupError, match="own"):
        asyncio.run(main())
    assert events == ["stopped"]


@pytest.mark.parametrize("swallows", [False, True])
def test_a_failing_system_cancels_the_block_and_says_why(swallows: bool) -> None:
    events: list[str] = []

    async def main() -> None:
        async with asyncio_system() as portal:
            ref = portal.spawn(lambda: Tally(events), "tally", ONCE)
            portal.spawn(lambda: Tally(events), "other")
            portal.tell(ref, Break())
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                if not swallows:
                    raise

    async def outer() -> None:
        with pytest.raises(RestartIntensityExceeded, match="/tally crashed"):
            await main()
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(outer())
    assert sorted(events) == ["stopped", "stopped"]


def test_calls_that_are_under_way_when_the_system_ends_hear_of_it() -> None:
    events = Log()

    async def main() -> None:
        async with asyncio_system() as portal:
            ref: Ref[Tallying] = portal.spawn(lambda: Tally(events), "tally")
            asking = asyncio.create_task(portal.ask(ref, Wait(), 100.0))
            await events.until("waits")
        with pytest.raises(SystemEnded):
            await asking
        with pytest.raises(SystemEnded):
            await portal.ask(ref, Add(1))

    asyncio.run(main())


def test_an_actor_uses_an_asyncio_library() -> None:
    events: list[str] = []

    async def driver(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        finally:
            events.append("driver ended")
        return "rows"

    async def main() -> None:
        async with asyncio_system() as portal:
            ref: Ref[Tallying] = portal.spawn(
                lambda: Tally(events, lambda seconds: portal.in_asyncio(driver, seconds)), "tally"
            )
            assert await portal.ask(ref, Fetch(0.001)) == "rows"
            asking = asyncio.create_task(portal.ask(ref, Fetch(1000), 2000.0))
            await asyncio.sleep(0.005)
            await portal.run(portal.system.stop, ref, 0.001)
            with pytest.raises(Exception, match="tally"):
                await asking
            assert events == ["driver ended", "driver ended", "stopped"]

    asyncio.run(main())


def test_an_error_of_the_asyncio_library_is_raised_in_the_actor() -> None:
    async def driver(seconds: float) -> str:
        raise ConnectionError("database is away")

    async def main() -> None:
        async with asyncio_system() as portal:
            ref: Ref[Tallying] = portal.spawn(
                lambda: Tally([], lambda seconds: portal.in_asyncio(driver, seconds)), "tally"
            )
            with pytest.raises(ActorFailed, match="database is away"):
                await portal.ask(ref, Fetch(0))

    asyncio.run(main())


def test_a_trio_program_is_told_to_do_without() -> None:
    async def main() -> None:
        async with asyncio_system():
            with pytest.raises(RuntimeError, match="Trio runs in this thread already"):
                async with asyncio_system():
                    pass

    asyncio.run(main())


def test_misuse_says_what_to_do_instead() -> None:
    async def block() -> None:
        async with asyncio_system() as portal:
            ref: Ref[Tallying] = portal.spawn(lambda: Tally([]), "tally")
            elsewhere = asyncio.to_thread(lambda: asyncio.run(portal.ask(ref, Add(1))))
            with pytest.raises(RuntimeError, match=r"another event loop: .*run_coroutine_threadsafe"):
                await elsewhere
            assert await portal.ask(ref, Add(1)) == 1
        with pytest.raises(SystemEnded):
            portal.spawn(lambda: Tally([]), "late")

    asyncio.run(block())
    with pytest.raises(RuntimeError, match=r"Trio runs in this thread already: use ActorSystem.open"):
        trio.run(block)
    with pytest.raises(RuntimeError, match="use background_system"):
        block().send(None)


def test_who_asks_again_at_once_finds_the_system_awake() -> None:
    """Serial asks of one task, without Trio's waiting in another thread between two of them."""
    waits = 0

    class Waits(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            nonlocal waits
            waits += timeout > 0

    async def main() -> None:
        async with asyncio_system() as portal:
            ref: Ref[Tallying] = portal.spawn(lambda: Tally([]), "tally")

            async def instrument() -> None:
                trio.lowlevel.add_instrument(Waits())

            await portal.run(instrument)
            for number in range(100):
                assert await portal.ask(ref, Add(1)) == number + 1
            assert waits < 10, f"Trio went to sleep {waits} times"

    asyncio.run(main())


INTERRUPTED = """
import asyncio, os, signal, sys, threading
from tests.actors.embed.test_embed import Add, Tally, Wait
from understudy.actors.embed import asyncio_system, background_system

class Log(list):
    def append(self, entry):
        print(entry, flush=True)
        if entry == "waits":
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

async def in_asyncio():
    async with asyncio_system() as portal:
        await portal.ask(portal.spawn(lambda: Tally(Log()), "tally"), Wait(), 100.0)

def in_a_thread():
    with background_system() as portal:
        portal.ask(portal.spawn(lambda: Tally(Log()), "tally"), Wait(), 100.0)

try:
    asyncio.run(in_asyncio()) if sys.argv[1] == "asyncio" else in_a_thread()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("host", ["asyncio", "thread"])
def test_ctrl_c_stops_every_actor_and_then_the_program(host: str) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, host],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split("\n")[:4] == ["waits", "waits no more", "stopped", "interrupted"], done.stderr


# -- synchronous code


def test_synchronous_code_asks_from_any_thread() -> None:
    events: list[str] = []
    answers: list[int] = []
    with background_system() as portal:
        ref: Ref[Tallying] = portal.spawn(lambda: Tally(events), "tally")
        portal.tell(ref, Add(10))
        threads = [threading.Thread(target=lambda: answers.append(portal.ask(ref, Add(1)))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert portal.with_system(lambda system: system.is_alive(ref))
        portal.stop(ref)
        assert events == ["stopped"]
    assert sorted(answers) == [11, 12, 13]


def test_leaving_the_block_stops_every_actor_and_gives_up_calls() -> None:
    events: list[str] = []
    refused: list[Exception] = []

    def wait(portal: ThreadPortal, ref: Ref[Tallying]) -> None:
        try:
            portal.ask(ref, Wait(), 100.0)
        except SystemEnded as error:
            refused.append(error)

    with pytest.raises(LookupError), background_system() as portal:
        ref: Ref[Tallying] = portal.spawn(lambda: Tally(events), "tally")
        thread = threading.Thread(target=wait, args=(portal, ref))
        thread.start()
        while not events:
            portal.ask(ref, Add(0))
        raise LookupError("the block's own")
    thread.join()
    assert len(refused) == 1
    assert events == ["waits", "waits no more", "stopped"]
    with pytest.raises(SystemEnded):
        portal.ask(ref, Add(1))


def test_an_interrupted_call_is_cancelled() -> None:
    events: list[str] = []

    class Interrupted(BaseException):
        pass

    with background_system() as portal:
        ref: Ref[Tallying] = portal.spawn(lambda: Tally(events), "tally")

        async def interrupted() -> None:
            try:
                await ref.ask(Wait(), 100.0)
            except trio.Cancelled:
                events.append("call cancelled")
                raise

        import concurrent.futures

        original = concurrent.futures.Future.result

        def result(future: Any, timeout: float | None = None) -> Any:
            while "waits" not in events:
                portal._hosted.system.is_alive(ref)
            raise Interrupted

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(concurrent.futures.Future, "result", result)
            with pytest.raises(Interrupted):
                portal.run(interrupted)
        assert concurrent.futures.Future.result is original
        while "call cancelled" not in events:
            portal.ask(ref, Add(0))
        portal.ask(ref, Add(0))
        assert "waits no more" in events


def test_a_failing_system_is_heard_of_at_the_next_call_and_at_the_end() -> None:
    events: list[str] = []
    with pytest.raises(RestartIntensityExceeded, match="/tally crashed"), background_system() as portal:
        ref: Ref[Tallying] = portal.spawn(lambda: Tally(events), "tally", ONCE)
        portal.tell(ref, Break())
        while True:
            # Until the system is gone: then the block ends with SystemEnded, and that with the reason.
            try:
                portal.ask(ref, Add(1))
            except SystemEnded:
                raise
            except Exception:
                continue
    assert events == ["stopped"]


def test_an_actor_cannot_block_its_own_thread() -> None:
    with background_system() as portal:

        def misuse(system: ActorSystem) -> None:
            portal.ask(system.ref("/nobody"), Add(1))

        with pytest.raises(RuntimeError, match="own thread"):
            portal.with_system(misuse)
