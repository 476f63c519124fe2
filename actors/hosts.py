"""Between the hosts of one program: what is sent is encoded, and travels as `host_network` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field

from understudy.mailbox import CodecError, Resolver, decode, encode

from .channels import ChannelWriter
from .delivery import DeadLetter
from .ref import Ref, current_cell

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
            value.check_portable()
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


@define(eq=False)
class Links:
    """The links between every two hosts of a system."""

    system: ActorSystem

    def transmit(
        self,
        source: str,
        target: str,
        item: Any,
        deliver: Callable[[Any], None],
        what: str,
        on_unreadable: Callable[[CodecError], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
        reliable: bool = True,
    ) -> None:
        """Carry something between hosts: by reference within one, encoded between two.

        `reliable`: in the session of the two hosts, in order, until that breaks; else as a datagram (see
        `host_network`). `on_lost` is called with the reason when it will not arrive; what it does must be
        what the sending host can know. `on_unreadable` is called over there, after the dead letter, when the
        bytes cannot be decoded. What an actor sends whose host has crashed goes nowhere.

        Raises:
            CodecError: it cannot be encoded; nothing was sent.
        """
        system = self.system
        network = system.world.network
        if network is None or source == target:
            deliver(item)
            return
        sender = current_cell.get()
        if sender is not None and sender.killed and sender.host == source:
            if on_lost is not None:
                system._crashes.when_broken(source, target, on_lost)
            return
        resolver = HostResolver(system, target)
        data = encode(item, resolver)

        def arrive() -> None:
            try:
                value = decode(data, resolver)
            except CodecError as error:
                system.lose(DeadLetter(what, source, data, "cannot be decoded", str(error)))
                if on_unreadable is not None:
                    on_unreadable(error)
                return
            deliver(value)

        network.send(source, target, arrive, on_lost or _nothing, reliable=reliable)


def _nothing(_: str) -> None:
    pass
