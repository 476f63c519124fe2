"""The pod of an ordinal. All pure."""

from typing import Any

from understudy.components.client import mutable
from understudy.components.controllers.ownership import controller_reference
from understudy.components.controllers.pod_control import pod_from_template
from understudy.components.controllers.revisions import POD_LABEL, template_of

Object = dict[str, Any]

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"


def first_ordinal(stateful_set: Object) -> int:
    """The ordinal of the first pod."""
    return int((stateful_set["spec"].get("ordinals") or {}).get("start", 0))


def ordinal_of(stateful_set: Object, pod: Object) -> int | None:
    """The pod's ordinal, as its name tells; None for a name that is none of the set's."""
    prefix, _, digits = pod["metadata"]["name"].rpartition("-")
    if prefix != stateful_set["metadata"]["name"] or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)


def pod_name(stateful_set: Object, ordinal: int) -> str:
    """The name of the pod of an ordinal."""
    return f"{stateful_set['metadata']['name']}-{ordinal}"


def revision_name_of(pod: Object) -> str:
    """The name of the revision that the pod was made from."""
    return str((pod["metadata"].get("labels") or {}).get(POD_LABEL, ""))


def make_pod(stateful_set: Object, revision: Object, ordinal: int) -> Object:
    """The pod of an ordinal at a revision."""
    name = pod_name(stateful_set, ordinal)
    reference = controller_reference(stateful_set, "apps/v1", "StatefulSet")
    pod = pod_from_template(template_of(revision), stateful_set, reference)
    metadata, spec = pod["metadata"], pod["spec"]
    del metadata["generateName"]
    metadata["name"] = name
    labels = metadata.setdefault("labels", {})
    labels[NAME_LABEL], labels[INDEX_LABEL] = name, str(ordinal)
    labels[POD_LABEL] = revision["metadata"]["name"]
    spec["hostname"] = name
    if stateful_set["spec"].get("serviceName"):
        spec["subdomain"] = stateful_set["spec"]["serviceName"]
    claims = {
        claim["metadata"]["name"]: claim_name(stateful_set, claim, ordinal)
        for claim in stateful_set["spec"].get("volumeClaimTemplates") or ()
    }
    if claims:
        others = [volume for volume in spec.get("volumes") or () if volume["name"] not in claims]
        spec["volumes"] = others + [
            {"name": volume, "persistentVolumeClaim": {"claimName": name}} for volume, name in claims.items()
        ]
    return pod


def claim_name(stateful_set: Object, template: Object, ordinal: int) -> str:
    """The name of the claim that a template makes for an ordinal."""
    return f"{template['metadata']['name']}-{pod_name(stateful_set, ordinal)}"


def make_claims(stateful_set: Object, ordinal: int) -> list[Object]:
    """The claims of an ordinal; they outlive its pods."""
    selected = (stateful_set["spec"].get("selector") or {}).get("matchLabels") or {}
    claims = []
    for template in stateful_set["spec"].get("volumeClaimTemplates") or ():
        claim = mutable(template)
        claim.pop("status", None)
        metadata = claim["metadata"]
        metadata["name"] = claim_name(stateful_set, template, ordinal)
        metadata["namespace"] = stateful_set["metadata"]["namespace"]
        metadata["labels"] = {**(metadata.get("labels") or {}), **selected}
        claims.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim})
    return claims
