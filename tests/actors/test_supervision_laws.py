"""The laws of supervision, under drawn workloads and schedules."""

from typing import Any

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import Actor, ActorSystem, Ref, Shuffled, SimWorld, Supervision, World, handles
from understudy.mailbox import MailboxFull, Message, Overflow, message


class Working:
    """Protocol of the worker."""


@message("test.laws.work")
@frozen
class Work(Message[Working]):
    number: int
    crashes: bool
    seconds: float


JOBS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.001, 0.01]), st.sampled_from([0.0, 0.002, 0.02])),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(JOBS, st.integers(0, 1000), st.integers(1, 8), st.sampled_from(Overflow), st.booleans())
def test_every_accepted_message_is_handled_once_or_counted(
    jobs: list[tuple[bool, float, float]], schedule: int, capacity: int, overflow: Overflow, hook_raises: bool
) -> None:
    begun: list[int] = []
    lives: list[str] = []

    class Worker(Actor[Working]):
        async def on_start(self) -> None:
            await self.world.sleep(0.001)
            lives.append("start")

        async def on_stop(self) -> None:
            await self.world.sleep(0.003)
            lives.append("stop")
            if hook_raises:
                raise RuntimeError("in the stop hook")

        @handles(Work)
        async def work(self, work: Work) -> None:
            assert lives[-1] == "start", "handled by an incarnation that has started and not stopped"
            begun.append(work.number)
            await self.world.sleep(work.seconds)
            if work.crashes:
                raise RuntimeError("crash")

    async def main(world: World) -> list[Any]:
        async with ActorSystem.open(world) as system:
            policy = Supervision(restarts_max=100, backoff_initial_seconds=0.001)
            ref: Ref[Working] = system.spawn(Worker, "worker", policy, capacity=capacity, overflow=overflow)
            rejected = []
            for number, (crashes, seconds, pause) in enumerate(jobs):
                try:
                    ref.tell(Work(number, crashes, seconds))
                except MailboxFull:
                    rejected.append(number)
                await world.sleep(pause)
            await world.sleep(600.0)
            lost = [n.message.number for n in system.dead_letters if n.reason != "its handler crashed"]
            crashed = [n.message.number for n in system.dead_letters if n.reason == "its handler crashed"]
            assert crashed == [n for n in begun if jobs[n][0]], "what a crash cost is counted"
            assert system.statistics()[0].restarts == sum(jobs[n][0] for n in begun)
            return rejected + lost

    lost = SimWorld(seed=1, schedule=Shuffled(schedule)).run(main)
    assert sorted(begun + lost) == list(range(len(jobs))), "each one once"
    assert begun == sorted(begun), "in the order in which they were told"
    assert lives == ["start", "stop"] * (len(lives) // 2), "no incarnation starts inside another's stop hook"
