"""Between the hosts of one program: what is sent is encoded, and arrives in the order of sending."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field

from understudy.mailbox import CodecError, Resolver, decode, encode

from .channels import ChannelWriter
from .delivery import DeadLetter
from .ref import Ref

if TYPE_CHECKING:
    from .system import ActorSystem

LOCAL = "local"
"""The host of everything that is not placed elsewhere."""


@define(eq=False)
class HostResolver(Resolver):
    """Writes refs and channel writers by name, and finds them again on the host that they arrive at.

    One is used for one message, on both hosts.
    """

    system: ActorSystem
    target: str
    far: list[Any] = field(factory=list, init=False)
    """What lives in another node's process: both hosts, being simulated in this one, reach it alike."""

    def name(self, value: Any) -> str | None:
        if (isinstance(value, Ref) and value._system is not self.system) or (
            isinstance(value, ChannelWriter) and type(value) is not ChannelWriter
        ):
            self.far.append(value)
            return f"far\0{len(self.far) - 1}"
        if isinstance(value, Ref):
            return f"ref\0{value.path}\0{'' if value.incarnation is None else value.incarnation}"
        if isinstance(value, ChannelWriter):
            return f"writer\0{value._core.number}"
        return None

    def resolve(self, name: str) -> Any:
        kind, _, rest = name.partition("\0")
        if kind == "ref":
            path, _, pin = rest.partition("\0")
            return Ref(path, self.system, int(pin) if pin else None)
        if kind == "far":
            return self.far[int(rest)]
        core = self.system._channels.get(int(rest))
        if core is None:
            # The reader went while its writer was on the way: whoever gets it learns that at its first send.
            writer, _ = self.system._new_channel(0, f"channel {rest}", 1, self.target)
            writer._core.writer.ended = True
            return writer
        core.writer_host = self.target
        return ChannelWriter(core)


@define
class _Link:
    """What is on its way from one host to another: delivered in the order in which it was sent."""

    queue: deque[tuple[bytes, Callable[[Any], None], Callable[[CodecError], None] | None]] = field(
        factory=deque
    )


@define(eq=False)
class Links:
    """The links between every two hosts of a system."""

    system: ActorSystem
    _links: dict[tuple[str, str], _Link] = field(factory=dict, init=False)

    def transmit(
        self,
        source: str,
        target: str,
        item: Any,
        deliver: Callable[[Any], None],
        what: str,
        on_unreadable: Callable[[CodecError], None] | None = None,
    ) -> None:
        """Carry something between hosts: by reference within one, encoded and in order between two.

        `on_unreadable` is called over there, after the dead letter, when the bytes cannot be decoded.

        Raises:
            CodecError: it cannot be encoded; nothing was sent.
        """
        hop_seconds = self.system.world.hop_seconds(source, target)
        if hop_seconds is None:
            deliver(item)
            return
        resolver = HostResolver(self.system, target)
        data = encode(item, resolver)
        link = self._links.setdefault((source, target), _Link())
        link.queue.append((data, deliver, on_unreadable))

        def arrive() -> None:
            payload, action, failure = link.queue.popleft()
            try:
                value = decode(payload, resolver)
            except CodecError as error:
                self.system.lose(DeadLetter(what, source, payload, "cannot be decoded", str(error)))
                if failure is not None:
                    failure(error)
                return
            action(value)

        self.system.world.call_later(hop_seconds, arrive, f"{source} to {target}")
