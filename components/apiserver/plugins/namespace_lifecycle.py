"""NamespaceLifecycle: nothing is created in a namespace that is not there or is going; some never go."""

from attrs import define, field

from understudy.actors import World
from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.encoding import Stored
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.errors import not_found
from understudy.components.machinery.resources import LOCAL_SUBJECT_ACCESS_REVIEWS, NAMESPACES

from .plugin import AdmissionPlugin, refusal

IMMORTAL = frozenset(("default", "kube-system", "kube-public"))
LOOK_CLOSER_SECONDS = 30.0
"""For that long after a namespace's deletion was asked for here, the store is asked, not the cache."""


@define(eq=False)
class NamespaceLifecycle(AdmissionPlugin):
    """Guards what goes into namespaces."""

    world: World
    _deleted: dict[str, float] = field(factory=dict)
    """Until when to look closer, by name; entries that are over go when another is added."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        resource, operation = attributes.resource, attributes.operation
        if resource is NAMESPACES:
            if operation == "DELETE" and not attributes.subresource:
                self._note_deletion(attributes)
            return
        namespace = attributes.namespace
        if not namespace or operation == "DELETE" or resource is LOCAL_SUBJECT_ACCESS_REVIEWS:
            return
        entry = await self._look_up(namespace, registry)
        if entry is None:
            raise not_found("", "namespaces", namespace)
        if operation == "CREATE" and entry.fields.get("status.phase") == "Terminating":
            error = refusal(
                attributes,
                f"unable to create new content in namespace {namespace} because it is being terminated",
            )
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            error.details = {**(error.details or {}), "causes": [cause]}
            raise error

    def _note_deletion(self, attributes: Attributes) -> None:
        if attributes.name in IMMORTAL:
            raise refusal(attributes, "this namespace may not be deleted")
        now = self.world.monotonic()
        self._deleted = {name: until for name, until in self._deleted.items() if until > now}
        self._deleted[attributes.name] = now + LOOK_CLOSER_SECONDS

    async def _look_up(self, namespace: str, registry: Registry) -> Stored | None:
        if self._deleted.get(namespace, 0.0) > self.world.monotonic():
            return await registry.live(NAMESPACES, "", namespace)
        entry = registry.cache(NAMESPACES).get("", namespace)
        return entry if entry is not None else await registry.live(NAMESPACES, "", namespace)
