"""What a node serves to the API server: the kubelet's own HTTP API as messages."""

from enum import Enum

from attrs import frozen

from understudy.actors import ChannelWriter
from understudy.mailbox import Refusal, Request, message


class KubeletServing:
    """Protocol of a kubelet, as the API server sees it."""


@message("kubelet.error")
@frozen
class KubeletError(Refusal):
    """The kubelet's answer when it cannot do it: an HTTP status code and what it says in the Status."""

    code: int
    """400 (also for a container that is waiting to start), 404 or 501."""
    message: str

    def __str__(self) -> str:
        return self.message


@message("kubelet.stream_opened")
@frozen
class StreamOpened:
    """What was asked for is on its way through the channel."""


@message("kubelet.get_container_logs")
@frozen
class GetContainerLogs(Request[KubeletServing, StreamOpened]):
    """A container's log, as `PodLogOptions` describe it, in chunks of bytes; the channel closes at its end.

    Refused with :class:`KubeletError`; nothing is sent then, and the asker closes its channel.
    """

    namespace: str
    pod: str
    container: str
    """"" is the pod's only container."""
    stream: ChannelWriter[bytes]
    follow: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: str = ""
    """RFC 3339, or "" for none."""
    timestamps: bool = False
    previous: bool = False
    limit_bytes: int | None = None


class SessionKind(Enum):
    EXEC = "exec"
    ATTACH = "attach"
    PORT_FORWARD = "portforward"


@message("kubelet.open_session")
@frozen
class OpenSession(Request[KubeletServing, StreamOpened]):
    """An interactive session with a container or a port of a pod. Refused with :class:`KubeletError`."""

    kind: SessionKind
    namespace: str
    pod: str
    container: str = ""
    command: tuple[str, ...] = ()
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False
    ports: tuple[int, ...] = ()
