"""What a run has come to, as one number: two runs with equal numbers go on alike.

An actor's state is what the turns of its tasks, in their order, have made of it. So the digest is, for every
actor, the order of its turns and of the messages it handled, and beside that what is under way: mailboxes,
channels, timers, the ready set and the clock. Orders between turns of different actors do not count: that
is what makes orders equal that differ in nothing that anybody could notice.

This holds as long as actors share nothing but messages, answers and channels. It does not for actors that
write to one Python object, set events for one another, or draw from one random stream. The scenario's own
tasks may share what they like: their turns are counted in one order.
"""

from attrs import define, field

from understudy.mailbox import label

from .incarnation import current_cell
from .simrun import Situation
from .turns import task_of


@define(eq=False)
class Digest:
    """Follows one run. Give `note` to the world's observer and `taken` each turn that was chosen."""

    _orders: dict[str, int] = field(factory=dict, init=False)
    _current: str = field(default="", init=False)
    """Whose turn was taken last."""

    def note(self, step: int, seconds: float, text: str) -> None:
        """Something of the trace: of the turn that was taken last."""
        self._orders[self._current] = hash((self._orders.get(self._current, 0), text))

    def taken(self, situation: Situation) -> None:
        """A turn is about to be taken."""
        turn = situation.world.ready_turns()[situation.chosen]
        task = task_of(turn)
        if task is None:
            self._current = "timer"
        else:
            cell = task.context.get(current_cell)
            self._current = "" if cell is None else cell.path

    def of(self, situation: Situation) -> int:
        """The digest of the moment before a turn."""
        world, system = situation.world, situation.system
        parts: list[object] = [situation.step, world.monotonic(), sorted(self._orders.items())]
        parts.append(sorted(turn.label for turn in world.ready_turns()))
        parts.append(world.waiting_labels())
        if system is not None:
            for path, cell in sorted(system._cells.items()):
                box = cell.mailbox
                queued = [(e.sender, label(e.message)) for e in box.queued()]
                failing = cell.life is not None and cell.life.failure is not None
                parts.append(
                    (path, cell.incarnation, cell.state.value, failing, queued, str(box.statistics()))
                )
            for number, core in sorted(system._channels.items()):
                reader, writer = core.reader, core.writer
                parts.append(
                    (
                        number,
                        reader.received,
                        len(reader.buffer),
                        reader.consumed,
                        writer.sent,
                        writer.credits,
                    )
                )
        return hash(repr(parts))
