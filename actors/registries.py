"""The registries of a system's hosts, and how each hears of what the others know.

Where no network is between the hosts they are one machine, with one registry. Else each host follows each
other one: asks for all of its entries, in the session of the two, and is sent every change after that. When
the session breaks, the entries of the other host are gone from the listings, and it is followed anew: what
is still registered there is back as soon as the two reach each other. A host that crashes forgets everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field

from .hosts import LOCAL
from .registry import Key, Registry

if TYPE_CHECKING:
    from .cell import Cell
    from .post_office import PostOffice


@define(eq=False)
class Registries:
    """All registries of one system."""

    system: PostOffice
    _registries: dict[str, Registry] = field(factory=dict, init=False)
    """By host."""
    _keys: dict[str, dict[str, None]] = field(factory=dict, init=False)
    """By path: what each actor is registered under."""
    _followers: dict[str, dict[str, None]] = field(factory=dict, init=False)
    """By host: those that are sent every change."""

    def at(self, host: str) -> Registry:
        """What that host knows."""
        if self.system.world.network is None:
            host = LOCAL
        registry = self._registries.get(host)
        if registry is None:
            registry = Registry(self.system, host)
            others = list(self._registries)
            self._registries[host] = registry
            for other in others:
                self._follow(host, other)
                self._follow(other, host)
        return registry

    def register(self, cell: Cell, key: Key[Any]) -> None:
        """An actor can be found under the key from now on."""
        text = str(key)
        keys = self._keys.setdefault(cell.path, {})
        if text not in keys:
            keys[text] = None
            self._change(cell, text, True)

    def unregister(self, cell: Cell, key: Key[Any]) -> None:
        """Undo `register`."""
        text, keys = str(key), self._keys.get(cell.path, {})
        if text in keys:
            del keys[text]
            self._change(cell, text, False)

    def ended(self, cell: Cell) -> None:
        """An actor has ended for good."""
        for text in self._keys.pop(cell.path, ()):
            self._change(cell, text, False)

    def host_crashed(self, host: str) -> None:
        """What the host knew is gone; its actors register again when they run again."""
        registry = self._registries.pop(host, None)
        self._followers.pop(host, None)
        if registry is not None:
            for _, path in registry.entries_from(host):
                self._keys.pop(path, None)

    def session_broke(self, one: str, other: str) -> None:
        """Two hosts have lost each other."""
        for host, gone in ((one, other), (other, one)):
            self._followers.get(host, {}).pop(gone, None)
            registry = self._registries.get(host)
            if registry is not None:
                registry.forget_host(gone)
                # One that has crashed makes itself known when it is back.
                if gone in self._registries:
                    self._follow(host, gone)

    def _change(self, cell: Cell, key: str, added: bool) -> None:
        registry = self.at(cell.host)
        _note(registry, key, cell.path, registry.host, added)
        for follower in list(self._followers.get(registry.host, ())):
            self._send(registry.host, follower, [[key, cell.path, added]])

    def _follow(self, host: str, other: str) -> None:
        """Have `other` send its entries, and every change, to `host`."""

        def begin(_: Any) -> None:
            registry = self.at(other)
            self._followers.setdefault(other, {})[host] = None
            self._send(other, host, [[key, path, True] for key, path in registry.entries_from(other)])

        self.system.transmit(host, other, None, begin, f"registry of {host}")

    def _send(self, host: str, follower: str, changes: list[list[Any]]) -> None:
        def hear(told: list[list[Any]]) -> None:
            registry = self._registries.get(follower)
            if registry is not None:
                for key, path, added in told:
                    _note(registry, key, path, host, added)

        self.system.transmit(host, follower, changes, hear, f"registry of {follower}")


def _note(registry: Registry, key: str, path: str, host: str, added: bool) -> None:
    if added:
        registry.add(key, path, host)
    else:
        registry.remove(key, path, host)
