"""ServiceAccount: every pod runs as one, and gets its token, the cluster's CA and its namespace mounted.

Source: Kubernetes documentation, "Configure Service Accounts for Pods"; KEP-1205 (projected tokens).
"""

from attrs import define

from understudy.actors import World
from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.names import generate_name
from understudy.components.machinery.resources import PODS, SERVICE_ACCOUNTS

from .plugin import AdmissionPlugin, refusal

DEFAULT_NAME = "default"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_EXPIRATION_SECONDS = 3607
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
ENFORCE_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"

WAIT_ATTEMPTS = 10
WAIT_SECONDS = 0.1
"""A new namespace's default account is made by a controller just after: that long it is waited for."""


@define(eq=False)
class ServiceAccount(AdmissionPlugin):
    """Gives pods their service account."""

    world: World

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        if attributes.resource is not PODS or attributes.operation != "CREATE" or attributes.subresource:
            return
        pod = attributes.obj
        assert pod is not None
        spec = pod["spec"]
        if MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
            return
        name = spec.get("serviceAccountName") or DEFAULT_NAME
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(attributes, registry, name)
        if _automount(account, spec):
            self._mount(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(secret) for secret in account["imagePullSecrets"]]

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        if attributes.resource is not PODS or attributes.operation != "CREATE" or attributes.subresource:
            return
        pod = attributes.obj
        assert pod is not None
        spec = pod["spec"]
        if MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
            _check_mirror(attributes, spec)
            return
        entry = registry.cache(SERVICE_ACCOUNTS).get(attributes.namespace, spec["serviceAccountName"])
        if entry is None:
            return  # admit has seen it in the store
        account = entry.parse()
        if (account["metadata"].get("annotations") or {}).get(ENFORCE_MOUNTABLE) == "true":
            _check_mountable(attributes, account, spec)

    async def _account(self, attributes: Attributes, registry: Registry, name: str) -> Object:
        namespace = attributes.namespace
        entry = registry.cache(SERVICE_ACCOUNTS).get(namespace, name)
        if entry is None:
            entry = await registry.live(SERVICE_ACCOUNTS, namespace, name)
        attempts = WAIT_ATTEMPTS if name == DEFAULT_NAME else 0
        for _ in range(attempts):
            if entry is not None:
                break
            await self.world.sleep(WAIT_SECONDS, "service account")
            entry = await registry.live(SERVICE_ACCOUNTS, namespace, name)
        if entry is None:
            raise refusal(
                attributes,
                f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found',
            )
        return entry.parse()

    def _mount(self, spec: Object) -> None:
        """Mount the token into every container that has nothing at its place."""
        volumes = spec.get("volumes") or []
        name = next((v["name"] for v in volumes if v["name"].startswith(VOLUME_PREFIX)), None)
        there = name is not None
        if name is None:
            name = generate_name(VOLUME_PREFIX, self.world.rng("service account volumes"))
        mounted = False
        for group in ("initContainers", "containers"):
            for container in spec.get(group) or ():
                mounts = container.get("volumeMounts") or []
                if any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
                    continue
                mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
                container["volumeMounts"] = [*mounts, mount]
                mounted = True
        if mounted and not there:
            spec["volumes"] = [*volumes, {"name": name, "projected": token_projection()}]


def token_projection() -> Object:
    """Token, CA and namespace, as they are mounted into a container."""
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_EXPIRATION_SECONDS, "path": "token"}},
            {
                "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }
            },
            {
                "downwardAPI": {
                    "items": [
                        {
                            "path": "namespace",
                            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                        }
                    ]
                }
            },
        ],
        "defaultMode": 0o644,
    }


def _automount(account: Object, spec: Object) -> bool:
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.get("automountServiceAccountToken")
    return wanted is not False


def _check_mirror(attributes: Attributes, spec: Object) -> None:
    """A mirror pod stands for one that a kubelet runs by itself: it has no account and no tokens."""
    if spec.get("serviceAccountName"):
        raise refusal(attributes, "a mirror pod may not reference service accounts")
    for volume in spec.get("volumes") or ():
        sources = (volume.get("projected") or {}).get("sources") or ()
        if any(source.get("serviceAccountToken") for source in sources):
            raise refusal(attributes, "a mirror pod may not use ServiceAccountToken volume projections")
        if volume.get("secret"):
            raise refusal(attributes, "a mirror pod may not reference secrets")


def _check_mountable(attributes: Attributes, account: Object, spec: Object) -> None:
    """The account says which secrets its pods may use. Raises 403."""
    name = account["metadata"]["name"]
    mountable = {secret["name"] for secret in account.get("secrets") or ()}
    pulled = {secret["name"] for secret in account.get("imagePullSecrets") or ()}
    for volume in spec.get("volumes") or ():
        secret = (volume.get("secret") or {}).get("secretName")
        if secret and secret not in mountable:
            raise refusal(
                attributes,
                f'volume with secret.secretName="{secret}" is not allowed because service account {name} does'
                " not reference that secret",
            )
    for group in ("initContainers", "containers"):
        for container in spec.get(group) or ():
            used = [
                ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name")
                for variable in container.get("env") or ()
            ]
            used += [(source.get("secretRef") or {}).get("name") for source in container.get("envFrom") or ()]
            for secret in used:
                if secret and secret not in mountable:
                    raise refusal(
                        attributes,
                        f"container {container['name']} with a secret {secret} is not allowed because service"
                        f" account {name} does not reference that secret",
                    )
    for reference in spec.get("imagePullSecrets") or ():
        if reference["name"] not in pulled:
            raise refusal(
                attributes,
                f'imagePullSecrets "{reference["name"]}" is not allowed because service account {name} does'
                " not reference that imagePullSecret",
            )
