"""Which container's log is meant, and how its lines become bytes; without I/O."""

from datetime import UTC, datetime

from attrs import define

from understudy.components.boundary.cri import LogLine
from understudy.components.boundary.kubelet_api import KubeletError

from .runtime_state import Object


def find_container_id(pod_name: str, status: Object, container: str, *, previous: bool) -> str:
    """The runtime's id of the container whose log is asked for, by the pod's status.

    Raises:
        KubeletError: there is none (yet), in the kubelet's words.
    """
    every = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    found = next((item for item in every if item["name"] == container), None)
    if found is None:
        raise KubeletError(400, f'container "{container}" not found in pod "{pod_name}"')
    last = (found["lastState"].get("terminated") or {}).get("containerID", "")
    if previous:
        if not last:
            raise KubeletError(
                400, f'previous terminated container "{container}" in pod "{pod_name}" not found'
            )
        return _bare(last)
    state = found["state"]
    if "running" in state:
        return _bare(found["containerID"])
    if "terminated" in state:
        own = state["terminated"].get("containerID") or last
        if own:
            return _bare(own)
        raise KubeletError(400, f'container "{container}" in pod "{pod_name}" is terminated')
    if last:
        return _bare(last)
    why = (state.get("waiting") or {}).get("reason", "ContainerCreating")
    shown = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }.get(why, why)
    raise KubeletError(400, f'container "{container}" in pod "{pod_name}" is waiting to start: {shown}')


def _bare(container_id: str) -> str:
    return container_id.partition("://")[2]


def since_nanoseconds(since_seconds: int | None, since_time: str, now: datetime) -> int:
    """From when on lines are wanted; 0 is from the beginning. Raises KubeletError on a bad time."""
    if since_seconds is not None:
        return int((now.timestamp() - since_seconds) * 1e9)
    if not since_time:
        return 0
    try:
        return int(datetime.fromisoformat(since_time).timestamp() * 1e9)
    except ValueError:
        raise KubeletError(400, f"invalid sinceTime {since_time!r}: RFC 3339 is wanted") from None


@define
class LogFormatter:
    """Lines to bytes, up to a limit."""

    timestamps: bool
    bytes_left: int | None

    def format(self, line: LogLine) -> bytes:
        """What the client gets for a line; b"" once the limit is used up."""
        data = line.content + (b"" if line.partial else b"\n")
        if self.timestamps:
            data = _time_text(line.timestamp) + b" " + data
        if self.bytes_left is not None:
            data = data[: self.bytes_left]
            self.bytes_left -= len(data)
        return data

    @property
    def exhausted(self) -> bool:
        """The limit is used up."""
        return self.bytes_left == 0


def _time_text(nanoseconds: int) -> bytes:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z".encode()
