"""What an asker is told when the other node, and not the actor, is why there is no answer."""

from attrs import frozen

from understudy.mailbox import Refusal, message


@message("remote.peer-lost")
@frozen
class PeerLost(Refusal):
    """The connection to the actor's node is lost, or there is none. Whether the message was handled is not
    known; a later one may get through."""

    node: str
    reason: str

    def __str__(self) -> str:
        return f"no connection to {self.node}: {self.reason}"


@message("remote.peer-quarantined")
@frozen
class PeerQuarantined(Refusal):
    """That incarnation of the node is gone for good, with its state: connect again and take new refs."""

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node} is in quarantine: {self.reason}"


class ConnectFailed(Exception):
    """No connection to that address came about; says what the last attempt met."""
