"""How refs and channel writers are written in messages to a peer, and found again there.

A ref's name says whose actor it is, seen from the writer: the writer's own, the reader's, or a third node's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define

from understudy.actors.channels import ChannelWriter
from understudy.actors.ref import Ref
from understudy.mailbox import CodecError, Resolver

if TYPE_CHECKING:
    from .peer import Peer

PIN_DIGITS_MAX = 18
"""An incarnation's number fits 64 bits."""


def wire_path(path: str, pin: int | None) -> str:
    """An actor of the other node, as frames call it."""
    return path if pin is None else f"{path}\0{pin}"


def split_wire_path(name: str) -> tuple[str, int | None]:
    """The path, and the incarnation if there is one. Raises ValueError when it is no path."""
    path, _, pin = name.partition("\0")
    if not path.startswith("/"):
        raise ValueError(f"no path of an actor: {path[:300]!r}")
    if not pin:
        return path, None
    if not (pin.isascii() and pin.isdigit() and len(pin) <= PIN_DIGITS_MAX):
        raise ValueError(f"no incarnation of an actor: {pin[:300]!r}")
    return path, int(pin)


@define(eq=False)
class PeerResolver(Resolver):
    """Names for one peer."""

    peer: Peer

    def name(self, value: Any) -> str | None:
        from .peer import Peer

        peer = self.peer
        if isinstance(value, Ref):
            place: Any = value._system
            if place is peer.system:
                return f"mine\0{wire_path(value.path, value.incarnation)}"
            if not isinstance(place, Peer):
                raise CodecError(f"{value!r} belongs to another actor system of this process")
            there = wire_path(place.path_there(value), value.incarnation)
            if place is peer:
                return f"yours\0{there}"
            return f"third\0{place.identity.name}\0{place.identity.incarnation}\0{there}"
        if isinstance(value, ChannelWriter):
            return peer.channels.export(value)
        return None

    def resolve(self, name: str) -> Any:
        peer = self.peer
        kind, _, rest = name.partition("\0")
        if kind == "mine":
            path, pin = split_wire_path(rest)
            return peer.make_ref(path, pin)
        if kind == "yours":
            return peer.local_ref(rest)
        if kind == "third":
            node, _, rest = rest.partition("\0")
            incarnation, _, rest = rest.partition("\0")
            path, pin = split_wire_path(rest)
            return peer.third_ref(node, incarnation, path, pin)
        if kind == "writer":
            number, credits, sent, label = rest.split("\0", 3)
            return peer.channels.take_in(int(number), int(credits), int(sent), label)
        raise CodecError(f"a reference of unknown kind {kind[:300]!r}")
