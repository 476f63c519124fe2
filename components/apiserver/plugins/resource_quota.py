"""ResourceQuota: what a namespace may hold, charged when objects come in and never above the limit.

The charge is an update of the quota's status in the store, in place of exactly what was decided upon; so two
writers at the same time cannot both take the last of it. What is charged and then not stored is put
right by the quota controller. Source: Kubernetes documentation, "Resource Quotas".
"""

from fractions import Fraction

from attrs import define, field

from understudy.actors import Event, World
from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.cacher import Interest
from understudy.components.apiserver.encoding import Stored
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import unavailable
from understudy.components.machinery.managed_fields import track_update
from understudy.components.machinery.pod_resources import Amounts
from understudy.components.machinery.quantity import Format, format_of, parse, render
from understudy.components.machinery.quota_usage import in_scopes, unset, usage
from understudy.components.machinery.resources import RESOURCE_QUOTAS
from understudy.components.machinery.schema import schema_for

from .plugin import AdmissionPlugin, refusal

FIELD_MANAGER = "kube-apiserver"
ATTEMPTS_MAX = 10
"""How often a charge is computed again because somebody else wrote the quota."""

_CHARGED_ON_UPDATE = frozenset(("services", "persistentvolumeclaims"))


@define(eq=False)
class ResourceQuota(AdmissionPlugin):
    """Charges quotas."""

    world: World
    _charging: dict[str, Event] = field(factory=dict)
    """Namespaces in which a charge is under way here: the next one waits instead of being beaten."""
    _written: dict[tuple[str, str], Stored] = field(factory=dict)
    """Quotas as last written here, which the cache may not have seen yet."""

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        namespace = attributes.namespace
        if not namespace or attributes.obj is None or attributes.subresource not in ("", "resize"):
            return
        plural, operation = attributes.resource.group_resource, attributes.operation
        charged = operation == "CREATE" and not attributes.subresource
        if operation == "UPDATE":
            charged = attributes.subresource == "resize" or plural in _CHARGED_ON_UPDATE
        if not charged or not registry.cache(RESOURCE_QUOTAS).objects:
            return
        entries = registry.cache(RESOURCE_QUOTAS).list(Interest(namespace=namespace))
        if not entries:
            return
        while namespace in self._charging:
            await self._charging[namespace].wait()
        done = self._charging[namespace] = self.world.event("quota charged")
        try:
            # First all are asked, so that no quota is charged for what another one refuses.
            for entry in entries:
                await self._charge(attributes, registry, entry.name, only_ask=True)
            for entry in () if attributes.dry_run else entries:
                await self._charge(attributes, registry, entry.name)
        finally:
            del self._charging[namespace]
            done.set()

    async def _charge(
        self, attributes: Attributes, registry: Registry, name: str, *, only_ask: bool = False
    ) -> None:
        entry = self._newest(registry, attributes.namespace, name)
        live = False
        for _ in range(ATTEMPTS_MAX):
            if entry is None:
                return  # it was deleted
            charged = _charged(entry.parse(), attributes)
            if isinstance(charged, str):
                # A refusal must not be the cache's fault.
                if live:
                    raise refusal(attributes, charged)
            elif charged is None or only_ask:
                return
            else:
                self._own(charged, entry)
                result = await registry.replace(entry, charged)
                if result is not None:
                    self._written[attributes.namespace, name] = result
                    return
            entry, live = await registry.live(RESOURCE_QUOTAS, attributes.namespace, name), True
        raise unavailable(f"the status of resource quota {name} changes too fast; try again")

    def _newest(self, registry: Registry, namespace: str, name: str) -> Stored | None:
        cached = registry.cache(RESOURCE_QUOTAS).get(namespace, name)
        written = self._written.get((namespace, name))
        if written is None:
            return cached
        if cached is None or cached.revision >= written.revision:
            del self._written[namespace, name]
            return cached
        return written

    def _own(self, charged: Object, entry: Stored) -> None:
        """The API server owns the amounts that it has changed."""
        schema = schema_for("v1", "ResourceQuota")
        assert schema is not None
        managed = track_update(
            schema,
            entry.parse(),
            charged,
            FIELD_MANAGER,
            time=self.world.now_text(),
            api_version="v1",
            subresource="status",
        )
        if managed:
            charged["metadata"]["managedFields"] = managed


def _charged(quota: Object, attributes: Attributes) -> Object | str | None:
    """The quota with the write charged to it; why it cannot be; None when it does not matter to it."""
    resource, new, old = attributes.resource, attributes.obj, attributes.old
    assert new is not None
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    name = quota["metadata"]["name"]
    if not hard or not in_scopes(quota, resource, new):
        return None
    wanted = usage(resource, new)
    if attributes.operation == "UPDATE" and old is not None and in_scopes(quota, resource, old):
        for key, value in usage(resource, old).items():
            wanted[key] = wanted.get(key, Fraction(0)) - value
    concerned = [key for key in sorted(hard) if key in wanted or _is_compute(resource.plural, key)]
    if resource.group_resource == "pods" and attributes.operation == "CREATE":
        missing = unset(new, hard)
        if missing:
            return f"failed quota: {name}: must specify {'; '.join(missing)}"
    unknown = [key for key in concerned if key not in used]
    if unknown:
        return f"status unknown for quota: {name}, resources: {','.join(unknown)}"
    delta = {key: wanted[key] for key in concerned if wanted.get(key)}
    if not delta:
        return None
    over = [key for key, value in delta.items() if value > 0 and parse(used[key]) + value > parse(hard[key])]
    if over:
        return (
            f"exceeded quota: {name}, requested: {_shown(over, delta, hard)},"
            f" used: {','.join(f'{key}={used[key]}' for key in over)},"
            f" limited: {','.join(f'{key}={hard[key]}' for key in over)}"
        )
    total = dict(used)
    for key, value in delta.items():
        total[key] = render(max(parse(used[key]) + value, Fraction(0)), _format(key, used, hard))
    return {**quota, "status": {**status, "used": total}}


def _is_compute(plural: str, key: str) -> bool:
    return plural == "pods" and key.rpartition(".")[2] in ("cpu", "memory")


def _format(key: str, used: Object, hard: Object) -> Format:
    return format_of(used[key]) if parse(used[key]) else format_of(hard[key])


def _shown(keys: list[str], delta: Amounts, hard: Object) -> str:
    return ",".join(f"{key}={render(delta[key], format_of(hard[key]))}" for key in keys)
