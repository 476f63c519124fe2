"""Whether the objects that a pod's volumes come from are there: the kubelet does not start a pod without."""

from .environment import Source
from .runtime_state import Object


def volume_sources(pod: Object) -> list[tuple[str, Source, tuple[str, ...]]]:
    """(volume, ConfigMap or Secret, keys that it must have) of every volume that cannot do without."""
    found: list[tuple[str, Source, tuple[str, ...]]] = []
    for volume in pod["spec"].get("volumes") or ():
        for field, kind, name_field in (
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
        ):
            source = volume.get(field)
            if source and not source.get("optional"):
                keys = tuple(item["key"] for item in source.get("items") or ())
                found.append((volume["name"], Source(kind, source.get(name_field, "")), keys))
    return found


def mount_problem(volume: str, source: Source, keys: tuple[str, ...], obj: Object | None) -> str | None:
    """Why a volume cannot be set up, or None."""
    if obj is None:
        why = f'{source.kind.lower()} "{source.name}" not found'
        return f'MountVolume.SetUp failed for volume "{volume}" : {why}'
    present = {*(obj.get("data") or {}), *(obj.get("binaryData") or {})}
    missing = [key for key in keys if key not in present]
    if missing:
        why = f"references non-existent {source.kind.lower()} key: {missing[0]}"
        return f'MountVolume.SetUp failed for volume "{volume}" : {why}'
    return None
