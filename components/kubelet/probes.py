"""Probe results with their thresholds, without I/O.

A probe that fails counts once its failures in a row reach `failureThreshold`, and one that passes once its
successes reach `successThreshold`. Readiness begins as failure, liveness as success, startup as unknown.
"""

from enum import Enum
from typing import Any

from attrs import define, field

KINDS = ("startup", "liveness", "readiness")


class Result(Enum):
    UNKNOWN = "unknown"
    SUCCESS = "success"
    FAILURE = "failure"


_INITIAL = {"startup": Result.UNKNOWN, "liveness": Result.SUCCESS, "readiness": Result.FAILURE}


@define(eq=False)
class ProbeState:
    """One probe of one container."""

    kind: str
    """`startup`, `liveness` or `readiness`."""
    spec: dict[str, Any]
    result: Result = field(init=False)
    held: bool = False
    """It is not asked any more: the container will be killed, or has started."""
    _last: bool | None = None
    _run: int = 0

    def __attrs_post_init__(self) -> None:
        assert self.kind in KINDS, self.kind
        self.result = _INITIAL[self.kind]

    @property
    def initial_delay(self) -> float:
        return float(self.spec.get("initialDelaySeconds") or 0)

    @property
    def period(self) -> float:
        return float(self.spec.get("periodSeconds") or 10)

    @property
    def timeout(self) -> float:
        return float(self.spec.get("timeoutSeconds") or 1)

    def observe(self, passed: bool) -> bool:
        """Count one answer; returns whether the result changed."""
        if self.held:
            return False
        self._run = self._run + 1 if self._last == passed else 1
        self._last = passed
        threshold = self.spec.get("successThreshold" if passed else "failureThreshold") or (
            1 if passed else 3
        )
        if self._run < threshold:
            return False
        before = self.result
        self.result = Result.SUCCESS if passed else Result.FAILURE
        if self.kind != "readiness" and self.result is Result.FAILURE:
            self.held = True
        if self.kind == "startup" and self.result is Result.SUCCESS:
            self.held = True
        return self.result is not before


def probe_specs(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The probes that a container has, by kind."""
    return {kind: container[f"{kind}Probe"] for kind in KINDS if container.get(f"{kind}Probe")}
