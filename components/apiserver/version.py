"""What the API server says about itself."""

from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.errors import not_found

from .context import RequestContext
from .reads import headers, render_value, rendering_of

GIT_VERSION = "v1.36.2"
"""The Kubernetes that is played, as clients compare it."""

VERSION: Object = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": GIT_VERSION,
    "gitCommit": "",
    "gitTreeState": "understudy",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none (Python)",
    "compiler": "cpython",
    "platform": "linux/amd64",
}

_COMPONENTS = ("controller-manager", "etcd-0", "scheduler")


def _component_status(name: str) -> Object:
    return {
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
    }


def component_statuses(context: RequestContext) -> ApiResponse:
    """The deprecated componentstatuses: every component runs in the same process as this answer."""
    name = context.info.name
    if name:
        if name not in _COMPONENTS:
            raise not_found("", "componentstatuses", name)
        return render_value(context, rendering_of(context), _component_status(name))
    rendering = rendering_of(context, frozenset({"PartialObjectMetadataList"}))
    value: Object = {
        "kind": "ComponentStatusList",
        "apiVersion": "v1",
        "metadata": {},
        "items": [_component_status(name) for name in _COMPONENTS],
    }
    return ApiResponse(200, headers(context, rendering), rendering.encode(value))
