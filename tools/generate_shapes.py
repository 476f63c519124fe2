"""Write `components/machinery/defaults/shape_facts.py` from the recorded OpenAPI documents.

Usage: python tools/generate_shapes.py FACTS_FOLDER

A real API server decodes a body into a typed value and encodes that value again; what a client gets back
therefore shows fields it never sent (`status: {}`) and lacks empty ones that it did send (`args: []`). The
documents say which struct fields are always present (they carry `default: {}`), which scalars are
(`default: ""`), and what is required. They do not say which optional scalars can hold an explicit zero; that
knowledge of the API types is in the sets below.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "components" / "machinery" / "defaults" / "shape_facts.py"


def _words(text: str) -> set[str]:
    return set(text.split())


# Optional integers whose zero is the same as absence. `Message.field` wins over a bare field name.
ZERO_IS_ABSENT_INTEGERS = _words(
    """minReadySeconds numberAvailable numberUnavailable updatedNumberScheduled observedGeneration
    availableReplicas readyReplicas unavailableReplicas updatedReplicas currentReplicas fullyLabeledReplicas
    active failed succeeded sizeBytes hostPort signal deprecatedCount failureThreshold
    initialDelaySeconds periodSeconds successThreshold nodePort healthCheckNodePort number generation
    DeploymentStatus.replicas Probe.timeoutSeconds Event.count EventSeries.count
    AWSElasticBlockStoreVolumeSource.partition GCEPersistentDiskVolumeSource.partition
    CustomResourceColumnDefinition.priority"""
)
EXPLICIT_ZERO_INTEGERS = {"HorizontalPodAutoscalerStatus.observedGeneration"}

# Optional booleans that can be explicitly false; all others drop `false`.
EXPLICIT_FALSE = _words(
    """AzureDiskVolumeSource.readOnly CSIVolumeSource.readOnly ValidationRule.optionalOldSelf optional
    immutable
    started supplementalGroupsPolicy recursiveReadOnlyMounts userNamespaces runAsNonRoot
    automountServiceAccountToken enableServiceLinks hostUsers setHostnameAsFQDN shareProcessNamespace
    allowPrivilegeEscalation privileged readOnlyRootFilesystem allocateLoadBalancerNodePorts hostProcess ready
    serving terminating allNodes allowMultipleAllocations bindsToNode bool adminAccess perDeviceNodeSelection
    attachRequired podInfoOnMount preventPodSchedulingIfMissing requiresRepublish seLinuxMount
    serviceAccountTokenInSecrets storageCapacity allowVolumeExpansion x-kubernetes-preserve-unknown-fields
    orphanDependents blockOwnerDeletion controller suspend manualSelector
    ignoreStoreReadErrorWithClusterBreakingPotential"""
)

# Optional strings that can be explicitly empty; all others drop `""`.
EXPLICIT_EMPTY_STRINGS = _words(
    """MatchResources.matchPolicy failurePolicy reinvocationPolicy scope parameterNotFoundAction
    MutatingWebhook.matchPolicy ValidatingWebhook.matchPolicy Validation.reason ValidationRule.reason
    WebhookClientConfig.url ServiceReference.path Container.restartPolicy EphemeralContainer.restartPolicy
    stopSignal selectPolicy timeZone completionMode managedBy podReplacementPolicy failedIndexes
    PodFailurePolicyOnExitCodesRequirement.containerName succeededIndexes holderIdentity preferredHolder
    LeaseSpec.strategy localhostProfile AzureDiskVolumeSource.cachingMode AzureDiskVolumeSource.fsType
    AzureDiskVolumeSource.kind secretNamespace CSIVolumeSource.fsType ClusterTrustBundleProjection.name
    ClusterTrustBundleProjection.signerName EndpointAddress.nodeName appProtocol GRPCAction.service
    HostPathVolumeSource.type endpointsNamespace initiatorName ipMode LocalVolumeSource.fsType
    PersistentVolumeClaimSpec.storageClassName volumeAttributesClassName volumeMode
    currentVolumeAttributesClassName PodDNSConfigOption.value resourceClaimName resourceClaimTemplateName
    fsGroupChangePolicy supplementalGroupsPolicy seLinuxChangePolicy hostnameOverride preemptionPolicy
    runtimeClassName PortStatus.error IngressPortStatus.error procMount internalTrafficPolicy ipFamilyPolicy
    loadBalancerClass trafficDistribution nodeAffinityPolicy nodeTaintsPolicy
    TypedLocalObjectReference.apiGroup TypedObjectReference.apiGroup TypedObjectReference.namespace
    mountPropagation recursiveReadOnly gmsaCredentialSpec gmsaCredentialSpecName runAsUserName
    Endpoint.hostname Endpoint.nodeName Endpoint.zone discovery.EndpointPort.name
    discovery.EndpointPort.protocol IngressClassParametersReference.apiGroup
    IngressClassParametersReference.namespace IngressClassParametersReference.scope ingressClassName
    NetworkPolicyPort.protocol unhealthyPodEvictionPolicy Device.nodeName ResourceSliceSpec.nodeName
    DeviceAttribute.string DeviceAttribute.version extendedResourceName distinctAttribute matchAttribute
    shareID
    capacityKey PriorityClass.preemptionPolicy fsGroupPolicy StorageClass.reclaimPolicy volumeBindingMode
    persistentVolumeName deprecationWarning labelSelectorPath x-kubernetes-list-type x-kubernetes-map-type
    podGroupName"""
)

# Scalars with a documented default that is nevertheless left out when empty.
OMITTED_THOUGH_DEFAULTED = _words(
    """ConfigMapEnvSource.name ConfigMapKeySelector.name ConfigMapProjection.name ConfigMapVolumeSource.name
    LocalObjectReference.name SecretEnvSource.name SecretKeySelector.name SecretProjection.name
    NodeRuntimeHandler.name FlowSchemaSpec.matchingPrecedence
    ReplicationControllerSpec.minReadySeconds"""
)
# Timestamps that are always written, `null` when unset.
ALWAYS_TIMES = _words(
    """lastProbeTime lastTransitionTime lastUpdateTime lastHeartbeatTime firstTimestamp lastTimestamp
    eventTime
    lastObservedTime deprecatedFirstTimestamp deprecatedLastTimestamp startedAt finishedAt"""
)
# Lists that are always written, `null` when empty, though they are not required.
ALWAYS_LISTS = _words(
    """Role.rules ClusterRole.rules EndpointSlice.ports HorizontalPodAutoscalerStatus.currentMetrics
    CustomResourceDefinitionStatus.conditions CustomResourceDefinitionStatus.storedVersions"""
)
OPAQUE = {"RawExtension", "JSON", "FieldsV1", "IntOrString", "JSONSchemaPropsOrStringArray"}
# Schemas that may be something else too: a list of schemas, a boolean.
SCHEMA_OR_ELSE = {"JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool"}
SCALAR_REFERENCES = {"Quantity": "q", "Time": "t", "MicroTime": "u"}


def chosen(names: set[str], message: str, field: str) -> bool:
    """Whether the field is in the set by its bare name, or qualified by its message or group and message."""
    group, short = message.split(".")[-3], message.split(".")[-1]
    return field in names or f"{short}.{field}" in names or f"{group}.{short}.{field}" in names


def code(message: str, field: str, schema: dict[str, Any], required: bool) -> str:
    """One field's code; the meaning of the letters is documented in shape.py."""
    reference = schema.get("$ref") or (schema.get("allOf") or [{}])[0].get("$ref", "")
    target = reference.rsplit("/", 1)[-1]
    short = target.rsplit(".", 1)[-1]
    kind = schema.get("type", "")
    if target:
        if short == "IntOrString":
            return "i" if required else ""
        if short in OPAQUE:
            return ""
        if short in SCHEMA_OR_ELSE:
            return "P" + target.replace(short, "JSONSchemaProps")
        if short in SCALAR_REFERENCES:
            letter = SCALAR_REFERENCES[short]
            if letter in "tu" and (required or chosen(ALWAYS_TIMES, message, field)):
                return letter.upper()
            return letter
        if schema.get("default") == {}:
            return "S" + target
        return ("N" if required else "P") + target
    if kind == "array":
        item = schema.get("items", {})
        inner = (item.get("$ref") or (item.get("allOf") or [{}])[0].get("$ref", "")).rsplit("/", 1)[-1]
        always = required or chosen(ALWAYS_LISTS, message, field)
        if (
            inner
            and inner.rsplit(".", 1)[-1] not in OPAQUE
            and inner.rsplit(".", 1)[-1] not in SCALAR_REFERENCES
        ):
            return ("A" if always else "L") + inner
        return "A" if always else "L"
    if kind == "object":
        inner = schema.get("additionalProperties", {})
        inner = (inner.get("$ref") or (inner.get("allOf") or [{}])[0].get("$ref", "")).rsplit("/", 1)[-1]
        if inner.rsplit(".", 1)[-1] == "Quantity":
            return "Q"
        if inner and inner.rsplit(".", 1)[-1] not in OPAQUE:
            return "M" + inner
        return "M"
    default = schema.get("default")
    always = (required and default is not None) or (
        default in ("", 0, False)
        and default is not None
        and not chosen(OMITTED_THOUGH_DEFAULTED, message, field)
    )
    if kind == "string":
        if always and default == "":
            return "s"
        return "" if chosen(EXPLICIT_EMPTY_STRINGS, message, field) else "o"
    if kind == "integer":
        if always:
            return "i"
        explicit = f"{message.rsplit('.', 1)[-1]}.{field}" in EXPLICIT_ZERO_INTEGERS
        return "o" if chosen(ZERO_IS_ABSENT_INTEGERS, message, field) and not explicit else ""
    if kind == "boolean":
        if always:
            return "b"
        return "" if chosen(EXPLICIT_FALSE, message, field) else "o"
    return ""


def main(facts: Path) -> None:
    """Read the documents under `facts` and write the module."""
    schemas: dict[str, dict[str, Any]] = {}
    for path in sorted((facts / "kubernetes" / "openapi-v3").glob("*.json.gz")):
        document = json.loads(gzip.decompress(path.read_bytes()))
        schemas.update(document.get("components", {}).get("schemas", {}))
    kinds: dict[str, str] = {}
    messages: dict[str, dict[str, str]] = {}
    for name, schema in sorted(schemas.items()):
        short = name.rsplit(".", 1)[-1]
        if short in OPAQUE or short in SCALAR_REFERENCES or (short.startswith("API") and ".meta." in name):
            continue
        for gvk in schema.get("x-kubernetes-group-version-kind", []):
            if len(schema["x-kubernetes-group-version-kind"]) == 1 and not gvk["kind"].endswith("List"):
                group = f"{gvk['group']}/" if gvk["group"] else ""
                kinds[f"{group}{gvk['version']} {gvk['kind']}"] = name
        required = set(schema.get("required", []))
        codes = {
            field: code(name, field, value, field in required)
            for field, value in schema.get("properties", {}).items()
            if field not in ("apiVersion", "kind", "managedFields")
            or "x-kubernetes-group-version-kind" not in schema
        }
        messages[name] = {field: value for field, value in sorted(codes.items()) if value}
    reachable: set[str] = set()
    waiting = sorted(kinds.values())
    while waiting:
        name = waiting.pop()
        if name in reachable or name not in messages:
            continue
        reachable.add(name)
        waiting.extend(value[1:] for value in messages[name].values() if len(value) > 1)
    short_names = {name: shorten(name) for name in reachable}
    assert len(set(short_names.values())) == len(short_names)
    lines = [
        '"""Generated by tools/generate_shapes.py: how each API type is written. Do not edit."""',
        "",
        "# fmt: off",
        "# ruff: noqa: E501",
        "KINDS: dict[str, str] = {",
    ]
    lines += [f'    "{key}": "{short_names[name]}",' for key, name in sorted(kinds.items())]
    lines += ["}", "MESSAGES: dict[str, str] = {"]
    for name in sorted(reachable):
        fields = " ".join(
            f"{field}:{value[0]}{short_names.get(value[1:], '') if len(value) > 1 else ''}"
            for field, value in messages[name].items()
        )
        lines.append(f'    "{short_names[name]}":')
        lines += [f'        "{part}"' for part in wrap(fields)]
        lines[-1] += ","
    lines += ["}", ""]
    TARGET.write_text("\n".join(lines))


def shorten(name: str) -> str:
    """`io.k8s.api.core.v1.Pod` -> `core.v1.Pod`."""
    return ".".join(name.split(".")[-3:])


def wrap(text: str, width: int = 95) -> list[str]:
    """Pieces of at most `width` characters that add up to the text."""
    pieces = [""]
    for word in text.split(" "):
        if len(pieces[-1]) + len(word) > width:
            pieces.append("")
        pieces[-1] += word + " "
    pieces[-1] = pieces[-1].rstrip(" ")
    return pieces


if __name__ == "__main__":
    main(Path(sys.argv[1]))
