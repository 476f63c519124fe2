"""Back-off by key: doubling delays that start afresh after a quiet time (client-go's flowcontrol)."""

from attrs import define, field

_QUIET_FACTOR = 2
"""An entry starts afresh after this many times the longest delay: 10 minutes for restarts."""


@define
class _Entry:
    delay: float
    updated_at: float


@define(eq=False)
class Backoff:
    """Delays in seconds. Times come from outside, so that this is as testable as arithmetic."""

    initial: float
    longest: float
    _entries: dict[str, _Entry] = field(factory=dict)

    def next(self, key: str, event_at: float, now: float) -> float:
        """Count one more failure, which happened at `event_at`; returns the delay from now on."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, event_at):
            entry = self._entries[key] = _Entry(self.initial, now)
        else:
            entry.delay = min(entry.delay * 2, self.longest)
            entry.updated_at = now
        return entry.delay

    def delay(self, key: str) -> float:
        """The delay that is in force, 0 when there is none."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else entry.delay

    def remaining_since(self, key: str, event_at: float, now: float) -> float:
        """How long the delay still lasts when it is counted from an event; 0 when it is over."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, event_at):
            return 0.0
        return max(0.0, event_at + entry.delay - now)

    def remaining(self, key: str, now: float) -> float:
        """How long the delay still lasts when it is counted from the last failure."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, now):
            return 0.0
        return max(0.0, entry.updated_at + entry.delay - now)

    def forget(self, prefix: str) -> None:
        """Forget every key that begins so."""
        self._entries = {key: entry for key, entry in self._entries.items() if not key.startswith(prefix)}

    def _expired(self, entry: _Entry, event_at: float) -> bool:
        return event_at - entry.updated_at > self.longest * _QUIET_FACTOR
