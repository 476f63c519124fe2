"""How a change becomes part of the store: proposed, replicated, committed by a majority, applied, watched."""

from attrs import frozen

from understudy.actors.system import Delivery
from understudy.raftstore.storage import Txn

from .api_steps import elapsed_ms
from .recording import Recording
from .step import Content, ObjectName, Step, actor_of
from .store_writes import Replication, Write
from .values import plain


def store_step(
    told: Recording, write: Write, replication: Replication, objects: tuple[ObjectName, ...], members: int
) -> Step:
    """A change at the store, with how the group came to it."""
    message = write.asked.message
    text = f"{'delete' if write.object is None else 'put'} {write.name}{_condition(message)}"
    outcome = f"revision {write.revision}" if write.revision else "not done: it has changed meanwhile"
    if write.answered is None:
        outcome = "no answer"
    elif isinstance(write.answered.message, BaseException):
        outcome = str(write.answered.message)
    content: Content = (("key", write.key.decode(errors="replace")), ("transaction", plain(message)))
    return Step(
        write.asked.seconds,
        "store",
        actor_of(write.asked.sender),
        (actor_of(write.asked.receiver),),
        text,
        objects,
        outcome,
        elapsed_ms(write.asked, write.answered),
        not write.revision,
        content,
        _raft_steps(told, write, replication, objects, members),
    )


def _condition(message: object) -> str:
    if isinstance(message, Txn) and message.compares:
        compare = message.compares[0]
        if compare.value == 0 and compare.target in ("create", "mod", "version"):
            return " (new)"
        if compare.target == "mod":
            return f" (over revision {compare.value!r})"
    return ""


def _raft_steps(
    told: Recording, write: Write, replication: Replication, objects: tuple[ObjectName, ...], members: int
) -> tuple[Step, ...]:
    steps: list[Step] = []
    submitted = replication.submitted

    def add(delivery: Delivery, text: str) -> None:
        sender, receiver = told.writer(delivery), told.reader(delivery)
        content: Content = (("message", plain(delivery.message, BYTES_IN_THE_STORE_MAX)),)
        steps.append(
            Step(
                delivery.seconds, "raft", actor_of(sender), (actor_of(receiver),), text, objects,
                content=content,
            )
        )  # fmt: skip

    if submitted is not None:
        add(submitted, "propose it to the leader")
    entry = f"entry {replication.index} of term {replication.term}"
    for delivery in replication.appends:
        add(delivery, f"append {entry}")
    having = 1
    for delivery in replication.replies:
        having += 1
        majority = 2 * having > members and 2 * (having - 1) <= members
        committed = f": {having} of {members} have it, it is committed" if majority else ""
        add(delivery, f"{entry} is in the log{committed}")
    if replication.outcome is not None:
        add(replication.outcome, f"{entry} is applied: {'revision ' + str(write.revision)}")
    if replication.watched is not None:
        add(replication.watched, f"watch: revision {write.revision} changed {write.name}")
    return tuple(sorted(steps, key=lambda step: step.seconds))


BYTES_IN_THE_STORE_MAX = 128
"""Of what the members tell each other, objects are left out: the step that they are part of has them."""


@frozen
class Agreement:
    """How the members of the store came to agree on a change, as its steps tell it."""

    entry: str
    """`entry 34 of term 1`."""
    leader: str
    followers: tuple[str, ...]
    """Those that were seen to have it, in order."""
    majority: str
    """`2 of 3` when it was committed; empty when it was not seen."""
    committed_ms: float
    """After the store was asked."""


def agreement(step: Step) -> Agreement | None:
    """How the members agreed on what a store step tells; None where no member is seen to replicate it."""
    raft = [child for child in step.children if child.kind == "raft"]
    appended = [child for child in raft if child.text.startswith("append ")]
    if not appended:
        return None
    had = [child for child in raft if " is in the log" in child.text]
    committed = next((child for child in had if child.text.endswith("committed")), None)
    return Agreement(
        appended[0].text.removeprefix("append "),
        appended[0].source.rpartition("/")[2],
        tuple(child.source.rpartition("/")[2] for child in had),
        "" if committed is None else committed.text.partition(": ")[2].partition(" have")[0],
        0.0 if committed is None else (committed.seconds - step.seconds) * 1000.0,
    )
