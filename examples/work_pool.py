"""A bounded pool of workers with back-pressure: whoever submits faster than the workers work has to wait.

python examples/work_pool.py

A submission is answered once a worker has taken the job, so a producer that waits for its answers never
has more than one job waiting. Producers that do not wait fill the pool's mailbox, which holds a stated number
of jobs and refuses the next. A job that crashes its worker is reported, and the worker starts again.
"""

import trio
from attrs import frozen

from understudy.actors import (
    Actor,
    ActorFailed,
    ActorSystem,
    AskTimeout,
    RealWorld,
    Ref,
    Supervision,
    handles,
)
from understudy.mailbox import Message, Request, message

WAITING_MAX = 16
"""Jobs that may wait in the pool's mailbox."""
JOB_SECONDS_MAX = 5.0


class Pooling:
    """Protocol of the pool."""


class Working:
    """Protocol of a worker."""


class Collecting:
    """Protocol of whoever wants the results."""


@message("example.pool.job")
@frozen
class Job(Request[Working, int]):
    """Answered with the sum of the numbers below `n`; a negative one crashes the worker."""

    n: int
    seconds: float = 0.0
    """How long it takes besides."""


@message("example.pool.done")
@frozen
class Done(Message[Collecting]):
    job: Job
    result: int | None
    error: str | None = None


@message("example.pool.submit")
@frozen
class Submit(Request[Pooling, None]):
    """Answered when a worker has taken the job; what comes of it is told to `to`."""

    job: Job
    to: Ref[Collecting]


class Worker(Actor[Working]):
    @handles(Job)
    async def job(self, message: Job) -> int:
        if message.n < 0:
            raise ArithmeticError(f"no sum below {message.n}")
        await self.world.sleep(message.seconds)
        return sum(range(message.n))


class Pool(Actor[Pooling]):
    """Hands each job to an idle worker; takes the next one only when there is one."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.idle: list[Ref[Working]] = []

    async def on_start(self) -> None:
        self.freed = self.world.signal("a worker is free")
        patient = Supervision(restarts_max=1000, backoff_initial_seconds=0.001, backoff_max_seconds=0.1)
        self.idle = [
            self.context.spawn(Worker, f"worker-{number}", patient) for number in range(1, self.workers + 1)
        ]

    @handles(Submit)
    async def submit(self, message: Submit) -> None:
        # While this waits the mailbox fills: that is the back-pressure.
        while not self.idle:
            await self.freed.wait()
        self.context.start_soon(self.run, self.idle.pop(), message)

    async def run(self, worker: Ref[Working], message: Submit) -> None:
        try:
            done = Done(message.job, await worker.ask(message.job, JOB_SECONDS_MAX))
        except (ActorFailed, AskTimeout) as failed:
            done = Done(message.job, None, repr(failed))
        self.idle.append(worker)
        self.freed.set()
        message.to.tell(done)


class Collector(Actor[Collecting]):
    """Prints results, and says when the expected number has come."""

    def __init__(self, expected: int, all_came: trio.Event) -> None:
        self.left, self.all_came = expected, all_came

    @handles(Done)
    def done(self, message: Done) -> None:
        print(f"below {message.job.n}: {message.result if message.error is None else message.error}")
        self.left -= 1
        if not self.left:
            self.all_came.set()


async def main() -> None:
    """Twenty jobs, one of them bad, on three workers."""
    all_came = trio.Event()
    async with RealWorld.open() as world, ActorSystem.open(world) as system:
        collector: Ref[Collecting] = system.spawn(lambda: Collector(20, all_came), "collector")
        pool: Ref[Pooling] = system.spawn(lambda: Pool(3), "pool", capacity=WAITING_MAX)
        for number in range(20):
            await pool.ask(Submit(Job(-1 if number == 7 else number * 1000, 0.05), collector))
        await all_came.wait()


if __name__ == "__main__":
    trio.run(main)
