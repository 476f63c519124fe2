"""The log of one fake container: CRI records in memory, bounded like a rotated log file."""

from collections import deque
from collections.abc import Callable

from attrs import define, field

from .cri import LogLine, LogStream

LINES_MAX = 10_000
"""Lines that are kept; older ones are gone, as after rotation."""


@define(eq=False)
class ContainerLog:
    """Lines with running numbers from 0; readers keep the number of the next line that they want."""

    lines: deque[LogLine] = field(factory=deque)
    dropped: int = 0
    """How many lines are gone: the number of the oldest line that is kept."""
    ended: bool = False
    _unfinished: dict[LogStream, bytes] = field(factory=dict)
    _listeners: dict[int, Callable[[], None]] = field(factory=dict)
    _listener_number: int = 0

    @property
    def next_number(self) -> int:
        """The number that the next line will have."""
        return self.dropped + len(self.lines)

    def write(self, timestamp: int, stream: LogStream, data: bytes) -> None:
        """Append output; a line without its end waits for the rest, or for the end of the log."""
        *lines, rest = (self._unfinished.pop(stream, b"") + data).split(b"\n")
        for line in lines:
            self._append(LogLine(timestamp, stream, line))
        if rest:
            self._unfinished[stream] = rest
        if lines:
            self._notify()

    def end(self, timestamp: int) -> None:
        """The container can write no more."""
        for stream, rest in self._unfinished.items():
            self._append(LogLine(timestamp, stream, rest, partial=True))
        self._unfinished.clear()
        self.ended = True
        self._notify()

    def read(self, number: int) -> tuple[LogLine | None, int]:
        """The first line there is from `number` on, and the number to go on with."""
        number = max(number, self.dropped)
        if number >= self.next_number:
            return None, number
        return self.lines[number - self.dropped], number + 1

    def start(self, tail_lines: int | None, since: int) -> int:
        """The number of the first line that a reader with these options wants."""
        number = self.dropped
        if since:
            kept = sum(1 for line in self.lines if line.timestamp >= since)
            number = self.next_number - kept
        if tail_lines is not None:
            number = max(number, self.next_number - tail_lines)
        return number

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when there is more to read, or the log has ended; returns how to undo it."""
        self._listener_number += 1
        number = self._listener_number
        self._listeners[number] = listener
        return lambda: void(self._listeners.pop(number, None))

    def _append(self, line: LogLine) -> None:
        self.lines.append(line)
        if len(self.lines) > LINES_MAX:
            self.lines.popleft()
            self.dropped += 1

    def _notify(self) -> None:
        for listener in list(self._listeners.values()):
            listener()


def void(_: object) -> None:
    """Nothing, for a callback whose result does not matter."""
