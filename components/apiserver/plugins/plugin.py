"""What every admission plugin of this package starts from: it does nothing until it overrides a half."""

from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import ApiError, forbidden


class AdmissionPlugin:
    """A plugin that lets everything pass as it is."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        """Change the object in place."""

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        """Refuse, or let pass."""


def refusal(attributes: Attributes, message: str) -> ApiError:
    """The 403 of a plugin."""
    resource = attributes.resource
    return forbidden(resource.group, resource.plural, attributes.name, message)


def pod_template_spec(attributes: Attributes) -> Object | None:
    """The pod spec inside a workload, None when it has none."""
    obj = attributes.obj
    if obj is None:
        return None
    spec = obj.get("spec") or {}
    if obj["kind"] == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    if obj["kind"] == "PodTemplate":
        spec = obj
    template = spec.get("template")
    return template.get("spec") if isinstance(template, dict) else None
