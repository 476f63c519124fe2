"""Who owns which field: the bookkeeping of `metadata.managedFields` on every write.

A write by Update (create, update, any patch but apply) makes its manager the owner of every field that it
changed and takes those fields from all others. A field that disappears is owned by nobody. `apply.py` does
the same for server-side apply, where owners are asked first.

Where a request calls this matters, because what the server itself fills in is owned by nobody: after decoding
and defaulting, before admission and before fields of another endpoint (`reset_fields`) are reset.

Reference: "Server-Side Apply" in the API concepts; the order of steps is that of the server's field manager.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from attrs import evolve, frozen

from understudy.components.machinery import field_set, typed_value
from understudy.components.machinery.errors import Object
from understudy.components.machinery.field_set import FieldSet
from understudy.components.machinery.schema import Schema

MAX_UPDATE_MANAGERS: Final = 10
"""More owners by Update than this, and the oldest are joined into one, `ancient-changes`."""
MANAGER_NAME_BYTES: Final = 128
ANCIENT_CHANGES: Final = "ancient-changes"

SERVER_OWNED: Final = field_set.of_paths(
    "apiVersion",
    "kind",
    "metadata",
    *(
        f"metadata.{name}"
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        )
    ),
)
"""Fields that no manager ever owns."""

_RESET: Final = {"": field_set.of_paths("status"), "status": field_set.of_paths("spec")}
_RESET_OF_KIND: Final = {
    ("CertificateSigningRequest", ""): field_set.of_paths("spec", "status"),
    ("CertificateSigningRequest", "approval"): field_set.of_paths("spec"),
    ("Deployment", "status"): field_set.of_paths("spec", "metadata.labels"),
    ("Pod", "status"): field_set.of_paths("spec", "metadata.deletionTimestamp", "metadata.ownerReferences"),
    ("CustomResourceDefinition", "status"): field_set.of_paths("spec", "metadata"),
    ("APIService", "status"): field_set.of_paths("spec", "metadata"),
    ("FlowSchema", "status"): field_set.of_paths("spec", "metadata"),
    ("PriorityLevelConfiguration", "status"): field_set.of_paths("spec", "metadata"),
    ("VolumeAttachment", "status"): field_set.of_paths("spec", "metadata"),
}

Converter = Callable[[Object, str], tuple[Schema, Object] | None]
"""(object, api version) -> the object in that version and its schema; None if the version is gone."""


class Identity(NamedTuple):
    """What makes two entries one. Appliers keep their identity across API versions."""

    manager: str
    operation: str
    api_version: str
    """Empty for Apply."""
    subresource: str

    def __str__(self) -> str:
        """As conflicts name a manager."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


@frozen
class Ownership:
    """The fields of one manager."""

    fields: FieldSet
    """Never empty in what is stored."""
    api_version: str
    """The version whose paths `fields` holds."""
    time: str | None
    """RFC 3339 seconds of the last write that added a field; None for an apply that changed nothing."""


Managers = dict[Identity, Ownership]


def track_update(
    schema: Schema,
    live: Object | None,
    new: Object,
    manager: str,
    *,
    time: str,
    api_version: str | None = None,
    subresource: str = "",
    reset_fields: FieldSet | None = None,
    convert: Converter | None = None,
) -> list[Object]:
    """The `managedFields` of `new`, as `manager` writes it over `live` (None: creates it).

    `time`: now, RFC 3339 in seconds. `api_version`: of the request, by default `new`'s own. `reset_fields`:
    what this endpoint does not write; by default `status` of the main resource and `spec` of its status.
    `convert` is needed only for kinds that are served in several versions. `new.metadata.managedFields` is
    what the client sent: an empty list forgets all owners, a well-formed one replaces the live one. Changes
    no argument; the result shares structure with them and is not to be changed.
    """
    version = api_version or new["apiVersion"]
    managers = _live_or_sent(live, new, subresource)
    if not managers and live is not None and live.get("metadata", {}).get("uid"):
        return []  # nobody asked for tracking since the owners were last forgotten
    reset = default_reset(new.get("kind", ""), subresource) if reset_fields is None else reset_fields
    identity = Identity(manager or "unknown", "Update", version, subresource)
    managers = update_managers(schema, live or {}, new, managers, identity, time, reset, convert)
    return encode(_capped(managers))


def field_manager(parameter: str, user_agent: str) -> str:
    """The name of the manager of a request: its `fieldManager`, or the program in its User-Agent.

    Of the latter the printable characters before the first slash, as many as 128 bytes hold. Empty is
    possible; tracking calls that manager `unknown`.
    """
    if parameter:
        return parameter
    name = ""
    for character in user_agent.split("/", 1)[0]:
        if character.isprintable():
            if len((name + character).encode()) > MANAGER_NAME_BYTES:
                break
            name += character
    return name


def default_reset(kind: str, subresource: str) -> FieldSet:
    """What an endpoint does not write: for most kinds the main resource its status, the status its spec."""
    return _RESET_OF_KIND.get((kind, subresource)) or _RESET.get(subresource, {})


def keep_times_if_unchanged(live: Object, new: Object) -> Object:
    """`new`, or `new` with the live `managedFields` if the times in them are all that differs.

    So a write that changes nothing stays one, and is not stored. Called last before storing, when the server
    has filled in what it owns; a resourceVersion that the client left out is no change.
    """
    if new == live:
        return new
    ours, theirs = live.get("metadata", {}), new.get("metadata", {})
    entries, sent = ours.get("managedFields") or [], theirs.get("managedFields") or []
    if len(entries) != len(sent) or {**live, "metadata": None} != {**new, "metadata": None}:
        return new
    aside = {"managedFields": None, "resourceVersion": None}
    if {**ours, **aside} != {**theirs, **aside}:
        return new
    by_identity = {_identity_of(entry): {**entry, "time": None} for entry in entries}
    if any(by_identity.get(_identity_of(entry)) != {**entry, "time": None} for entry in sent):
        return new
    return {**new, "metadata": {**theirs, "managedFields": entries}} if entries else new


def update_managers(
    schema: Schema,
    live: Object,
    new: Object,
    managers: Managers,
    identity: Identity,
    time: str,
    reset: FieldSet,
    convert: Converter | None,
) -> Managers:
    """The managers after an Update by `identity`."""
    changes = Changes(schema, live, new, identity.api_version, reset, convert)
    changed, _ = changes.own
    managers = changes.take_from_others(managers, None)
    won = field_set.difference(changed, SERVER_OWNED)
    if won:
        before = managers.get(identity)
        fields = field_set.union(won, before.fields) if before else won
        managers[identity] = Ownership(fields, identity.api_version, time)
    return managers


class Changes:
    """How one write changes an object, in each API version that an owner's fields are written in."""

    def __init__(
        self,
        schema: Schema,
        live: Object,
        new: Object,
        api_version: str,
        reset: FieldSet,
        convert: Converter | None,
    ) -> None:
        self._live, self._new = live, new
        self._reset, self._convert = reset, convert
        self.own = self._filtered(typed_value.compare(schema, live, new))
        """(added or modified, removed) in the version of the request."""
        self._by_version: dict[str, tuple[FieldSet, FieldSet] | None] = {api_version: self.own}

    def in_version(self, api_version: str) -> tuple[FieldSet, FieldSet] | None:
        """The same, in another version; None if objects cannot be had in it any more."""
        if api_version not in self._by_version:
            self._by_version[api_version] = self._converted(api_version)
        return self._by_version[api_version]

    def conflicts(self, managers: Managers, writer: Identity) -> dict[Identity, FieldSet]:
        """The fields of others that the write would change, by owner."""
        found = {}
        for identity, ownership in managers.items():
            if identity != writer and (changes := self.in_version(ownership.api_version)) is not None:
                contested = field_set.intersection(ownership.fields, changes[0])
                if contested:
                    found[identity] = contested
        return found

    def take_from_others(self, managers: Managers, writer: Identity | None) -> Managers:
        """The managers without the changed and removed fields; those left with none are gone."""
        kept: Managers = {}
        for identity, ownership in managers.items():
            if identity == writer:
                kept[identity] = ownership
                continue
            changes = self.in_version(ownership.api_version)
            if changes is None:
                continue
            fields = field_set.difference(field_set.difference(ownership.fields, changes[0]), changes[1])
            if fields:
                kept[identity] = ownership if fields is ownership.fields else evolve(ownership, fields=fields)
        return kept

    def _converted(self, api_version: str) -> tuple[FieldSet, FieldSet] | None:
        if self._convert is None:
            return self.own
        new = self._convert(self._new, api_version)
        live = self._convert(self._live, api_version) if self._live else (None, {})
        if new is None or live is None:
            return None
        return self._filtered(typed_value.compare(new[0], live[1], new[1]))

    def _filtered(self, sets: tuple[FieldSet, FieldSet]) -> tuple[FieldSet, FieldSet]:
        if not self._reset:
            return sets
        return (
            field_set.recursive_difference(sets[0], self._reset),
            field_set.recursive_difference(sets[1], self._reset),
        )


def decode(entries: Any) -> Managers:
    """The managers that a `managedFields` list states. Raises ValueError with what is wrong with it."""
    managers: Managers = {}
    for entry in entries or ():
        if not isinstance(entry, dict) or entry.get("operation") not in ("Apply", "Update"):
            raise ValueError("operation must be `Apply` or `Update`")
        if not entry.get("apiVersion"):
            raise ValueError("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise ValueError(f"missing or invalid fieldsType {entry.get('fieldsType')!r}, expected FieldsV1")
        fields = entry.get("fieldsV1") or {}
        managers[_identity_of(entry)] = Ownership(fields, entry["apiVersion"], entry.get("time"))
    return managers


def encode(managers: Mapping[Identity, Ownership]) -> list[Object]:
    """The `managedFields` list: appliers first, then by time, name, version, subresource."""
    entries = []
    for identity, ownership in sorted(
        managers.items(),
        key=lambda item: (
            item[0].operation,
            item[1].time or "",
            item[0].manager,
            item[1].api_version,
            item[0].subresource,
        ),
    ):
        entry: Object = {}
        if identity.manager:
            entry["manager"] = identity.manager
        entry["operation"] = identity.operation
        entry["apiVersion"] = ownership.api_version
        if ownership.time:
            entry["time"] = ownership.time
        entry["fieldsType"] = "FieldsV1"
        entry["fieldsV1"] = ownership.fields
        if identity.subresource:
            entry["subresource"] = identity.subresource
        entries.append(entry)
    return entries


def _identity_of(entry: Object) -> Identity:
    operation = entry.get("operation") or ""
    return Identity(
        entry.get("manager") or "",
        operation,
        "" if operation == "Apply" else entry.get("apiVersion") or "",
        entry.get("subresource") or "",
    )


def _live_or_sent(live: Object | None, new: Object, subresource: str) -> Managers:
    """The owners to start from: those the client sent if it may and they make sense, else the live ones."""
    stored = ((live or {}).get("metadata") or {}).get("managedFields")
    sent = (new.get("metadata") or {}).get("managedFields")
    if not subresource and sent is not None and sent is not stored and sent != stored:
        if not sent or (len(sent) == 1 and not sent[0]):
            return {}
        try:
            managers = decode(sent)
            for ownership in managers.values():
                _check(ownership.fields)
        except ValueError:
            pass  # clients that garble what they do not understand must not make others lose their fields
        else:
            return managers
    try:
        return decode(stored)
    except ValueError:
        return {}


def _check(tree: Any) -> None:
    if not isinstance(tree, dict):
        raise ValueError(f"fieldsV1 must be an object of objects, got {tree!r}")
    for step, node in tree.items():
        if step != field_set.SELF and step[:2] not in ("f:", "k:", "v:", "i:"):
            raise ValueError(f"unknown step {step!r} in fieldsV1")
        _check(node)


def _capped(managers: Managers) -> Managers:
    """Joins the oldest owners by Update, of one version each, until no more than the limit are left."""
    updaters = [identity for identity in managers if identity.operation == "Update"]
    excess = len(updaters) - MAX_UPDATE_MANAGERS
    if excess <= 0:
        return managers
    updaters.sort(key=lambda identity: (managers[identity].time or "", identity))
    result = dict(managers)
    first_of_version: dict[str, Identity] = {}
    for identity in updaters:
        if excess <= 0:
            break
        ownership = managers[identity]
        first = first_of_version.setdefault(ownership.api_version, identity)
        if first == identity:
            continue
        bucket = Identity(ANCIENT_CHANGES, "Update", ownership.api_version, "")
        if bucket not in result:
            result[bucket] = result.pop(first)
        result.pop(identity, None)
        joined = field_set.union(ownership.fields, result.get(bucket, ownership).fields)
        result[bucket] = Ownership(joined, ownership.api_version, ownership.time)
        excess -= 1
    return result
