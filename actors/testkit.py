"""What tests of actors are written with: probes, virtual time, crashes on purpose, and simulated runs.

    async def scenario(system: ActorSystem) -> None:
        probe: Probe[Greeting] = Probe(system, "probe")
        system.spawn(lambda: Greeter(probe.ref), "greeter")
        assert (await probe.expect(Hello)).name == "world"

    simulate(scenario)                      # first come, first served
    simulate(scenario, seed=7, schedule=Shuffled(7))
    search(scenario).check()                # see `search`: many orders, and a failing one made small

Everything here but `settle` works in the real world, too, with deadlines in real seconds.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from attrs import define

from understudy.mailbox import Message, Request, label

from .actor import Actor, Handler, Terminated
from .delivery import DeadLetter
from .plan import InjectedCrash, Plan
from .ref import Ref
from .schedule import Schedule
from .sim import SimWorld
from .simrun import TURNS_MAX, Job, Scenario, run_once
from .supervision import TEMPORARY
from .system import LOCAL, ActorStatus, ActorSystem, Delivery
from .world import World

P = TypeVar("P")
M = TypeVar("M", bound=Message[Any])
T = TypeVar("T")

WITHIN_SECONDS = 3.0
"""How long an expectation waits unless told otherwise."""

POLL_SECONDS = 0.01
"""How often a state that nobody announces is looked at."""


class Unanswerable(AssertionError):
    """`Probe.reply` or `Probe.refuse`, and nobody waits for an answer."""


@define(eq=False)
class _Received:
    """A message that reached a probe."""

    message: Any
    sender: str
    ask: int
    """0: nobody waits for an answer."""
    claimed: bool = False
    """Its handler has begun."""
    answer: Any = None
    error: Exception | None = None
    answered: bool = False


class _AnyMessage(dict[type, Handler]):
    """Handlers of every type of message."""

    def get(self, key: type, default: Any = None) -> Any:
        return _ASKED if issubclass(key, Request) else _TOLD

    def __contains__(self, key: object) -> bool:
        return True


class _ProbeActor(Actor[Any]):
    def __init__(self, probe: "Probe[Any]") -> None:
        self.probe = probe

    async def on_start(self) -> None:
        self.probe._actor = self

    async def answer(self, message: Any) -> Any:
        return await self.probe._answer_of(message)

    def record(self, message: Any) -> None:
        """The observer has recorded it."""


_ASKED = Handler(_ProbeActor.answer, True, True)
_TOLD = Handler(_ProbeActor.record, False, False)
_ProbeActor.handlers = _AnyMessage()


class Probe(Generic[P]):
    """A stand-in for an actor: its `ref` may be given to others; it records what they send.

    Messages are expected in the order in which they arrived. Requests wait until they are answered, with
    `reply` or `refuse`, or until their asker gives up.
    """

    def __init__(self, system: ActorSystem, name: str = "probe", *, host: str = LOCAL) -> None:
        """Spawn it at `/name`. It ends with its system.

        Raises:
            ValueError: an actor of that name is alive.
        """
        self._system = system
        self._path = f"/{name}"
        self._inbox: deque[_Received] = deque()
        self._all: list[_Received] = []
        self._arrived = system.world.signal(f"{self._path} expects")
        self._answers = system.world.event(f"{self._path} answers")
        self._ignored: tuple[type, ...] = ()
        self._last: _Received | None = None
        self._actor: _ProbeActor | None = None
        self._watch_at_start: list[Ref[Any]] = []
        system.observers.append(self._observe)
        self.ref: Ref[P] = system.spawn(lambda: _ProbeActor(self), name, TEMPORARY, host=host)

    def _observe(self, delivery: Delivery) -> None:
        if delivery.receiver == self._path and not delivery.answer and not delivery.channel:
            received = _Received(delivery.message, delivery.sender, delivery.ask)
            self._all.append(received)
            if not isinstance(delivery.message, self._ignored):
                self._inbox.append(received)
                self._arrived.set()

    @property
    def received(self) -> list[Any]:
        """Every message that ever arrived, in order."""
        return [each.message for each in self._all]

    @property
    def last_sender(self) -> str:
        """Path of who sent the message that was expected last."""
        assert self._last is not None, "nothing was expected yet"
        return self._last.sender

    def ignore(self, *kinds: type[Message[Any]]) -> None:
        """From now on, expectations do not see messages of these types."""
        self._ignored = (*self._ignored, *kinds)

    async def expect(self, kind: type[M], within_seconds: float = WITHIN_SECONDS) -> M:
        """The next message, which must be of that type and come in time.

        Raises:
            AssertionError: none came, or another one did; says which, and what had come before.
        """
        received = await self._next(within_seconds)
        if received is None:
            raise AssertionError(
                f"no {_named(kind)} reached {self._path} within {within_seconds:g} s{self._history()}"
            )
        if not isinstance(received.message, kind):
            raise AssertionError(
                f"{self._path} expected {_named(kind)}, and {received.message!r} came"
                f" from {received.sender or 'outside'}{self._history()}"
            )
        self._last = received
        return received.message

    async def fish(
        self,
        kind: type[M],
        where: Callable[[M], bool] = lambda message: True,
        within_seconds: float = WITHIN_SECONDS,
    ) -> M:
        """The first message of that type for which `where` holds; others that come before it are skipped.

        Raises:
            AssertionError: none came in time; says what was skipped.
        """
        skipped: list[_Received] = []
        deadline = self._system.world.monotonic() + within_seconds
        while True:
            received = await self._next(deadline - self._system.world.monotonic())
            if received is None:
                passed = ", ".join(repr(each.message) for each in skipped[-10:]) or "nothing else"
                raise AssertionError(
                    f"no {_named(kind)} that was fished for reached {self._path} within {within_seconds:g} s;"
                    f" {passed} came"
                )
            if isinstance(received.message, kind) and where(received.message):
                self._last = received
                return received.message
            skipped.append(received)

    async def expect_none(self, within_seconds: float) -> None:
        """Nothing comes for that long.

        Raises:
            AssertionError: something came.
        """
        received = await self._next(within_seconds)
        if received is not None:
            raise AssertionError(
                f"{self._path} expected nothing for {within_seconds:g} s, and {received.message!r} came"
                f" from {received.sender or 'outside'}"
            )

    async def expect_terminated(self, target: Ref[Any], within_seconds: float = WITHIN_SECONDS) -> Terminated:
        """An actor that this probe watches has ended; other messages are an error.

        Raises:
            AssertionError: it has not, or another message came.
        """
        terminated = await self.expect(Terminated, within_seconds)
        assert terminated.path == target.path, f"{terminated.path} ended, not {target.path}"
        return terminated

    async def _next(self, within_seconds: float) -> _Received | None:
        with self._system.world.limit(within_seconds):
            while not self._inbox:
                await self._arrived.wait()
        return self._inbox.popleft() if self._inbox else None

    def _history(self) -> str:
        if not self._all:
            return "; nothing ever came"
        return "; came so far: " + ", ".join(label(each.message) for each in self._all[-10:])

    def reply(self, value: Any) -> None:
        """Answer the request that was expected last.

        Raises:
            Unanswerable: it was told, not asked, or has been answered, or its asker gave up.
        """
        self._answer(value, None)

    def refuse(self, error: Exception) -> None:
        """Raise `error` at the asker of the request that was expected last: a `Refusal`, in general.

        Raises:
            Unanswerable: as `reply`.
        """
        self._answer(None, error)

    def _answer(self, value: Any, error: Exception | None) -> None:
        received = self._last
        if received is None or not received.ask or received.answered:
            what = "nothing was expected" if received is None else repr(received.message)
            raise Unanswerable(f"{self._path}: nobody waits for an answer to {what}")
        received.answer, received.error, received.answered = value, error, True
        event, self._answers = self._answers, self._system.world.event(f"{self._path} answers")
        event.set()

    async def _answer_of(self, message: Any) -> Any:
        received = next(r for r in self._all if r.message is message and not r.claimed)
        received.claimed = True
        if not received.ask:
            return None
        try:
            while not received.answered:
                await self._answers.wait()
        finally:
            received.answered = True
        if received.error is not None:
            raise received.error
        return received.answer

    async def watch(self, target: Ref[Any]) -> None:
        """Get a `Terminated` whenever an incarnation of the target ends."""
        while self._actor is None:
            await self._system.world.sleep(0.0, "the probe starts")
        self._actor.context.watch(target)


def _named(kind: type) -> str:
    return kind.__name__


# -- time


async def settle(world: World) -> None:
    """Let everything happen that can happen without time passing. In simulation only."""
    assert isinstance(world, SimWorld), (
        "in the real world nobody knows when all has settled: expect something"
    )
    await world.settle()


async def advance(world: World, seconds: float) -> None:
    """Let that much time pass, and everything happen that is due until then. In simulation only."""
    assert world.simulated, "real time cannot be advanced: expect something, with a deadline"
    await world.sleep(seconds, "advance")
    await settle(world)


# -- crashes and restarts


def status(system: ActorSystem, target: Ref[Any]) -> ActorStatus | None:
    """The actor at this moment; None when it has ended."""
    return next((each for each in system.statistics() if each.path == target.path), None)


async def crash(
    system: ActorSystem,
    target: Ref[Any],
    error: Exception | None = None,
    within_seconds: float = WITHIN_SECONDS,
) -> Exception:
    """Crash the actor's present incarnation and wait until it has ended; returns what it failed with.

    Raises:
        AssertionError: there is no such actor, or the incarnation is still there after that time.
    """
    before = status(system, target)
    assert before is not None, f"{target.path} cannot crash: there is no such actor"
    failure = error or InjectedCrash(f"{target.path}, for a test")
    system.crash(target, failure)
    for _ in _polls(within_seconds):
        now = status(system, target)
        if now is None or now.incarnation != before.incarnation or now.state == "backing off":
            return failure
        await system.world.sleep(POLL_SECONDS, f"{target.path} crashes")
    raise AssertionError(f"{within_seconds:g} s after its crash: {status(system, target)}")


async def expect_restarted(
    system: ActorSystem, target: Ref[Any], incarnation: int, within_seconds: float = WITHIN_SECONDS
) -> None:
    """Wait until that incarnation of the actor runs.

    Raises:
        AssertionError: it does not in time, a later one does, or the actor has ended for good.
    """
    now = status(system, target)
    for _ in _polls(within_seconds):
        if now is None:
            raise AssertionError(f"{target.path} has ended for good; incarnation {incarnation} never ran")
        assert now.incarnation <= incarnation, f"{target.path} is at incarnation {now.incarnation} already"
        if now.incarnation == incarnation and now.state == "running":
            return
        await system.world.sleep(POLL_SECONDS, f"{target.path} restarts")
        now = status(system, target)
    raise AssertionError(f"no incarnation {incarnation} of {target.path} within {within_seconds:g} s: {now}")


async def expect_dead_letter(
    system: ActorSystem,
    kind: type[Message[Any]],
    reason: str | None = None,
    within_seconds: float = WITHIN_SECONDS,
) -> DeadLetter:
    """Wait until a message of that type is a dead letter (one that is already counts); returns the first.

    Raises:
        AssertionError: there is none in time, or none for that reason; says what is lost.
    """
    for _ in _polls(within_seconds):
        for letter in system.dead_letters:
            if isinstance(letter.message, kind) and reason in (None, letter.reason):
                return letter
        await system.world.sleep(POLL_SECONDS, "a dead letter is expected")
    lost = "; ".join(
        f"{label(each.message)} to {each.path}: {each.reason}" for each in list(system.dead_letters)[-10:]
    )
    why = "" if reason is None else f" ({reason})"
    raise AssertionError(
        f"no {_named(kind)} was lost{why} within {within_seconds:g} s; dead letters: {lost or 'none'}"
    )


def _polls(within_seconds: float) -> Iterator[int]:
    return iter(range(int(within_seconds / POLL_SECONDS) + 1))


# -- simulated runs


def simulate(
    scenario: Scenario[T],
    plan: Plan | None = None,
    *,
    seed: int = 0,
    schedule: Schedule | None = None,
    turns_max: int = TURNS_MAX,
) -> T:
    """Run a scenario in a simulated world, in a system of its own; returns what it returns.

    Either a plan (to run again what failed), or a seed and a schedule. When the scenario fails, its error
    carries a note with the plan of that very run, whatever schedule it had: shown by pytest, to be pasted.
    """
    assert plan is None or (seed == 0 and schedule is None), "give a plan, or a seed and a schedule"
    base = Plan(seed) if plan is None else plan
    job = Job(base) if schedule is None else Job(base, lambda _: schedule)
    result = run_once(scenario, job, turns_max=turns_max)
    if result.error is not None:
        result.error.add_note(
            f"after {result.turns} turns; to run it again: simulate(scenario, {result.plan})"
        )
    return result.unwrap()
