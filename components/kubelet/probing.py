"""The probes of one pod: which run, what they have found out, and when each is due again."""

from attrs import define, field, frozen

from understudy.components.boundary.cri import ContainerState, ContainerStatus

from .pod_actions import Verdicts
from .probes import KINDS, ProbeState, Result, probe_specs
from .runtime_state import Object, PodRuntime, containers, init_containers, is_sidecar


@frozen
class Due:
    """A probe that is to be performed after a while."""

    container: str
    container_id: str
    kind: str
    delay: float

    @property
    def key(self) -> str:
        """Names its timer."""
        return probe_key(self.container_id, self.kind)


def probe_key(container_id: str, kind: str) -> str:
    """Names the timer of a probe."""
    return f"probe {container_id} {kind}"


@define(eq=False)
class Probing:
    """State of a pod's probes, by container id: a new container begins afresh."""

    _states: dict[tuple[str, str], ProbeState] = field(factory=dict)

    def find(self, container_id: str, kind: str) -> ProbeState | None:
        """A probe's state, if it runs."""
        return self._states.get((container_id, kind))

    def arm(self, pod: Object, runtime: PodRuntime, now_ns: int) -> tuple[list[Due], list[str]]:
        """(probes to begin, timers to cancel) for the containers that run now."""
        due: list[Due] = []
        alive: set[str] = set()
        probed = [*containers(pod), *(c for c in init_containers(pod) if is_sidecar(c))]
        for container in probed:
            status = runtime.newest(container["name"])
            if status is None or status.state != ContainerState.RUNNING:
                continue
            alive.add(status.id)
            due += self._begin(container, status, now_ns)
        gone = [key for key in self._states if key[0] not in alive]
        for key in gone:
            del self._states[key]
        return due, [probe_key(*key) for key in gone]

    def _begin(self, container: Object, status: ContainerStatus, now_ns: int) -> list[Due]:
        due: list[Due] = []
        for kind, spec in probe_specs(container).items():
            if (status.id, kind) in self._states:
                continue
            if kind != "startup" and not self._passed_startup(container, status):
                continue
            state = self._states[status.id, kind] = ProbeState(kind, spec)
            age = (now_ns - status.started_at) / 1e9
            due.append(Due(container["name"], status.id, kind, max(0.0, state.initial_delay - age)))
        return due

    def _passed_startup(self, container: Object, status: ContainerStatus) -> bool:
        if not container.get("startupProbe"):
            return True
        state = self._states.get((status.id, "startup"))
        return state is not None and state.result is Result.SUCCESS

    def started(self, pod: Object, status: ContainerStatus) -> bool:
        """Whether a running container has passed its startup probe, if it has one."""
        container = _spec(pod, status.metadata.name)
        return container is None or self._passed_startup(container, status)

    def ready(self, pod: Object, status: ContainerStatus) -> bool:
        """Whether a running container passes its readiness probe, if it has one."""
        container = _spec(pod, status.metadata.name)
        if container is None or not container.get("readinessProbe"):
            return True
        state = self._states.get((status.id, "readiness"))
        return state is not None and state.result is Result.SUCCESS

    def verdicts(self, pod: Object) -> Verdicts:
        """What the probes say about restarting."""
        failed = [
            key
            for key, state in self._states.items()
            if key[1] != "readiness" and state.result is Result.FAILURE
        ]
        assert all(kind in KINDS for _, kind in failed), failed
        return Verdicts(lambda status: self.started(pod, status), failed)


def _spec(pod: Object, name: str) -> Object | None:
    every = (*containers(pod), *init_containers(pod))
    return next((container for container in every if container["name"] == name), None)
