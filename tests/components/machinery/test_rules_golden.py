"""The recorded writes of a real API server, replayed through defaults, strategies and validation.

A small model server stands around the pure functions: a dictionary for the store, and the admission that
shows in the recorded objects (service account, tolerations, priority, finalizers). A scenario passes
when every exchange has the recorded code, reason, details and object; the wording of messages is free.

`python tests/components/machinery/test_rules_golden.py [-v] [text]` counts and shows what fails.
"""

import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from understudy.components.machinery import patch, service_fields
from understudy.components.machinery.conforming import conform
from understudy.components.machinery.defaults import apply_defaults
from understudy.components.machinery.deletion import begin_deletion
from understudy.components.machinery.errors import (
    ApiError,
    FieldError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
)
from understudy.components.machinery.names import generate_name
from understudy.components.machinery.preparation import Writer
from understudy.components.machinery.resources import Resource, lookup
from understudy.components.machinery.schema import schema_for
from understudy.components.machinery.strategic_patch import strategic_merge_patch
from understudy.components.machinery.strategy import Strategy, strategy_for
from understudy.components.machinery.validation import (
    validate_create,
    validate_status_update,
    validate_subresource_update,
    validate_update,
)
from understudy.components.machinery.validation.services import validate_cluster_ips

Object = dict[str, Any]

AREAS = (
    "defaulting",
    "validation",
    "validation-update",
    "delete",
    "crud",
    "subresources",
    "services",
    "namespaces",
    "patch",
    "selectors",
    "events",
    "table",
    "list",
    "kubectl",
)
NOW = "2026-11-20T12:00:00Z"
MUST_PASS = Path(__file__).with_name("rules_golden_pass.txt")


class Unanswerable(Exception):
    """The exchange is not one the model server knows; its scenario is left out, not passed."""


def placeholder_pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\{[^}]*\}\})", text)
    return re.compile("".join("(.+?)" if p.startswith("{{") else re.escape(p) for p in parts), re.DOTALL)


class Bindings:
    """Placeholders of one scenario: the first match binds, later ones must be the same."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"ns": "testspaces"}

    def put(self, value: Any) -> Any:
        """A recorded request with what is bound put in."""
        if isinstance(value, dict):
            if list(value) == ["$repeat"]:
                return value["$repeat"][0] * value["$repeat"][1]
            return {self.put(k): self.put(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.put(item) for item in value]
        if isinstance(value, str):
            whole = re.fullmatch(r"\{\{([^}]*)\}\}", value)
            if whole and whole[1] in self.values:
                return self.values[whole[1]]
            value = value.replace("{{time}}", NOW)
            return re.sub(r"\{\{([^}]*)\}\}", lambda m: str(self.values[m[1]]), value)
        return value

    def differences(self, expected: Any, actual: Any, path: str = "") -> list[str]:
        """Where the actual value is not as recorded."""
        if isinstance(expected, str) and "{{" in expected:
            return self._text(expected, actual, path)
        if isinstance(expected, dict) and isinstance(actual, dict):
            wanted = {self.put(key): value for key, value in expected.items()}
            found = [f"{path}.{key}: missing" for key in wanted if key not in actual]
            found += [f"{path}.{key}: not recorded: {actual[key]!r}" for key in actual if key not in wanted]
            for key in wanted.keys() & actual.keys():
                found += self.differences(wanted[key], actual[key], f"{path}.{key}")
            return found
        if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
            found = []
            for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
                found += self.differences(one, other, f"{path}[{index}]")
            return found
        same = expected == actual and type(expected) is type(actual)
        return [] if same else [f"{path}: {actual!r} instead of {expected!r}"]

    def _text(self, expected: str, actual: Any, path: str) -> list[str]:
        match = placeholder_pattern(expected).fullmatch(str(actual))
        if match is None or actual is None:
            return [f"{path}: {actual!r} does not fit {expected!r}"]
        whole = re.fullmatch(r"\{\{[^}]*\}\}", expected) is not None
        for name, value in zip(re.findall(r"\{\{([^}]*)\}\}", expected), match.groups(), strict=True):
            if name in ("time", "microtime", "num", "hex", "any"):
                continue
            known = self.values.setdefault(name, actual if whole else value)
            if str(known) != value:
                return [f"{path}: {value!r}, where {name} is {known!r}"]
        return []


class Counted:
    """A random source that counts: names are different and the same in every run."""

    def __init__(self) -> None:
        self.state = 1

    def randrange(self, stop: int, /) -> int:
        self.state = self.state * 1103515245 + 12345 & 0x7FFFFFFF
        return (self.state >> 8) % stop


class ModelServer:
    """Store, admission and addresses, as far as they show in the recordings."""

    writer = Writer(now=NOW, username="u", groups=("system:masters", "system:authenticated"))

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.revision = 100
        self.numbers = 0
        self.rng = Counted()
        self.taken = {"10.96.0.1"}

    def answer(self, request: Object) -> tuple[int, Any]:
        """Code and body for one request."""
        path, method = request["path"], request["method"]
        resource, namespace, name, subresource = self.parse(path)
        options = dict(request.get("query") or [])
        if options.keys() - {"dryRun", "fieldManager", "fieldValidation"} and method != "DELETE":
            raise Unanswerable(f"options {options}")
        body = request.get("body")
        if method == "GET":
            return self.get(resource, namespace, name, subresource)
        if method == "POST" and not name:
            return 201, self.create(resource, namespace, self.decoded(body, resource), options)
        if method in ("PUT", "PATCH") and name and subresource not in ("scale", "eviction"):
            key = self.key(resource, namespace, name)
            old = self.objects.get(key)
            strategy = strategy_for(resource)
            if old is None and not (method == "PUT" and strategy.allow_create_on_update):
                raise not_found(resource.group, resource.plural, name)
            if method == "PUT":
                new = self.decoded(body, resource)
                if old is None:
                    return 201, self.create(resource, namespace, new, options)
                self.check_names(new, name, namespace)
            else:
                assert old is not None
                new = self.patched(old, body, request["headers"], resource)
            assert old is not None
            return 200, self.update(strategy, resource, key, new, old, subresource, method)
        if method == "DELETE" and name and not subresource:
            return self.delete(resource, namespace, name, request)
        raise Unanswerable(f"{method} {path}")

    def parse(self, path: str) -> tuple[Resource, str, str, str]:
        parts = path.strip("/").split("/")
        group, version, rest = (
            ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        )
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource = lookup(group, version, rest[0])
        if resource is None:
            raise Unanswerable(path)
        name = rest[1] if len(rest) > 1 else ""
        return resource, namespace, name, "/".join(rest[2:])

    @staticmethod
    def key(resource: Resource, namespace: str, name: str) -> str:
        return f"{resource.group_resource}/{namespace}/{name}"

    @staticmethod
    def decoded(body: Any, resource: Resource) -> Object:
        if not isinstance(body, dict) or "$raw" in body:
            raise Unanswerable("a raw body")
        obj = copy.deepcopy(body)
        if obj.setdefault("kind", resource.kind) != resource.kind:
            raise bad_request("another kind")
        if obj.setdefault("apiVersion", resource.api_version) != resource.api_version:
            raise bad_request("another version")
        schema = schema_for(resource.api_version, resource.kind)
        assert schema is not None
        obj, _ = conform(schema, obj)
        obj.setdefault("metadata", {})
        obj["metadata"].pop("managedFields", None)
        return obj

    @staticmethod
    def check_names(obj: Object, name: str, namespace: str) -> None:
        metadata = obj["metadata"]
        if metadata.get("name") != name:
            raise bad_request("another name, or none")
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request("another namespace")
        if not namespace:
            del metadata["namespace"]

    def patched(self, old: Object, body: Any, headers: Object, resource: Resource) -> Object:
        kind = {k.lower(): v for k, v in headers.items()}["content-type"]
        if kind == "application/merge-patch+json":
            return self.decoded(patch.merge_patch(old, body), resource)
        if kind == "application/strategic-merge-patch+json":
            schema = schema_for(resource.api_version, resource.kind)
            assert schema is not None
            return self.decoded(strategic_merge_patch(schema, old, body), resource)
        if kind == "application/json-patch+json":
            return self.decoded(patch.json_patch(old, body), resource)
        raise Unanswerable(kind)

    def get(self, resource: Resource, namespace: str, name: str, subresource: str) -> tuple[int, Any]:
        key = self.key(resource, namespace, name)
        if not name or subresource == "scale":
            raise Unanswerable("list")
        if resource.kind == "IPAddress" and key not in self.objects:
            raise Unanswerable("made by the address allocator")
        if key not in self.objects:
            raise not_found(resource.group, resource.plural, name)
        return 200, copy.deepcopy(self.objects[key])

    def create(self, resource: Resource, namespace: str, obj: Object, options: Object) -> Object:
        strategy, metadata = strategy_for(resource), obj["metadata"]
        if namespace and f"namespaces//{namespace}" not in self.objects:
            raise not_found("", "namespaces", namespace)
        if namespace and metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request("another namespace")
        if metadata.get("resourceVersion"):
            raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
        apply_defaults(obj)
        self.numbers += 1
        metadata.pop("selfLink", None)
        metadata["uid"] = f"00000000-0000-4000-8000-{self.numbers:012d}"
        metadata["creationTimestamp"] = NOW
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = generate_name(metadata["generateName"], self.rng)
        self.admit(obj)
        if resource.kind == "Service":
            self.begin_service(obj, None)
        strategy.prepare_for_create(obj, self.writer)
        self.refuse(resource, obj, validate_create(obj))
        key = self.key(resource, namespace, metadata["name"])
        if key in self.objects:
            raise already_exists(resource.group, resource.plural, metadata["name"])
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        if not options.get("dryRun"):
            self.objects[key] = copy.deepcopy(obj)
        else:
            del metadata["resourceVersion"]
        return obj

    @staticmethod
    def refuse(resource: Resource, obj: Object, findings: list[FieldError]) -> None:
        if findings:
            raise invalid(resource.group, resource.kind, obj["metadata"].get("name", ""), findings)

    def update(
        self,
        strategy: Strategy,
        resource: Resource,
        key: str,
        new: Object,
        old: Object,
        subresource: str,
        method: str,
    ) -> Object:
        apply_defaults(new)
        metadata, name = new["metadata"], old["metadata"]["name"]
        version = metadata.get("resourceVersion", "")
        if version in ("", "0"):
            if not strategy.allow_unconditional_update:
                finding = FieldError(
                    "FieldValueInvalid", "metadata.resourceVersion", 0, "must be specified for an update"
                )
                raise invalid(resource.group, resource.plural, name, [finding])
        elif not version.isdigit():
            raise ApiError(500, "", "invalid resourceVersion")
        elif version != old["metadata"]["resourceVersion"]:
            raise conflict(resource.group, resource.plural, name, "the object has been modified")
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        old = copy.deepcopy(old)
        if resource.kind == "Service" and not subresource:
            self.begin_service(new, old)
        if resource.kind == "Pod" and not subresource:
            self.tolerate(new["spec"])
        if subresource:
            strategy.prepare_for_subresource_update(subresource, new, old, self.writer)
            findings = (
                validate_status_update(new, old)
                if subresource == "status"
                else validate_subresource_update(subresource, new, old)
            )
        else:
            strategy.prepare_for_update(new, old, self.writer)
            findings = validate_update(new, old)
        self.refuse(resource, new, findings)
        metadata = new["metadata"]
        done = metadata.get("deletionTimestamp") and not metadata.get("finalizers")
        held = new.get("spec", {}).get("finalizers") if resource.kind == "Namespace" else None
        if done and not held and metadata.get("deletionGracePeriodSeconds", 0) == 0:
            del self.objects[key]
            return new
        if new != old:
            self.revision += 1
            metadata["resourceVersion"] = str(self.revision)
        self.objects[key] = copy.deepcopy(new)
        return new

    def delete(self, resource: Resource, namespace: str, name: str, request: Object) -> tuple[int, Any]:
        strategy, key = strategy_for(resource), self.key(resource, namespace, name)
        options = {**dict(request.get("query") or []), **(request.get("body") or {})}
        if options.keys() - {"gracePeriodSeconds"} or resource.kind == "Namespace":
            raise Unanswerable("delete options")
        if key not in self.objects:
            raise not_found(resource.group, resource.plural, name)
        asked = options.get("gracePeriodSeconds")
        if isinstance(asked, str):
            try:
                asked = int(asked)
            except ValueError:
                raise bad_request("not a number") from None
        obj = self.objects[key]
        deletion = begin_deletion(strategy, obj, asked, NOW)
        if deletion.changed:
            self.revision += 1
        self.taken.discard(obj["spec"].get("clusterIP") if resource.kind == "Service" else None)
        deletion.obj["metadata"]["resourceVersion"] = str(self.revision)
        if deletion.waits or deletion.obj["metadata"].get("finalizers"):
            self.objects[key] = copy.deepcopy(deletion.obj)
            return 200, deletion.obj
        del self.objects[key]
        if strategy.returns_deleted_object:
            return 200, deletion.obj
        details = {"name": name, "kind": resource.plural, "uid": obj["metadata"]["uid"]}
        if resource.group:
            details["group"] = resource.group
        return 200, {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }

    def admit(self, obj: Object) -> None:
        """What admission plugins add, for the kinds where it shows."""
        kind, metadata, spec = obj["kind"], obj["metadata"], obj.get("spec", {})
        if kind in ("PersistentVolume", "PersistentVolumeClaim"):
            metadata.setdefault("finalizers", []).append(f"kubernetes.io/{_SHORT[kind]}-protection")
        if kind == "Node":
            spec.setdefault("taints", []).append(
                {"effect": "NoSchedule", "key": "node.kubernetes.io/not-ready"}
            )
        if kind != "Pod":
            return
        account = spec.setdefault("serviceAccountName", "default")
        if account != "default" or "overhead" in spec:
            raise forbidden("", "pods", metadata.get("name", ""), "refused by admission")
        spec["serviceAccount"] = account
        spec.setdefault("priority", 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
        self.tolerate(spec)
        volume = generate_name("kube-api-access-", self.rng)
        mount = {
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            "name": volume,
            "readOnly": True,
        }
        for field in ("containers", "initContainers"):
            for container in spec.get(field) or ():
                container.setdefault("volumeMounts", []).append(mount)
        spec.setdefault("volumes", []).append({"name": volume, "projected": copy.deepcopy(_PROJECTED)})

    @staticmethod
    def tolerate(spec: Object) -> None:
        """The tolerations that every pod gets, on update too."""
        for name in ("not-ready", "unreachable"):
            key = f"node.kubernetes.io/{name}"
            if not any(item.get("key") == key for item in spec.get("tolerations", ())):
                toleration = {
                    "effect": "NoExecute",
                    "key": key,
                    "operator": "Exists",
                    "tolerationSeconds": 300,
                }
                spec.setdefault("tolerations", []).append(toleration)

    def begin_service(self, new: Object, old: Object | None) -> None:
        """Addresses and ports, as the allocator would."""
        resource = lookup("", "v1", "services")
        assert resource is not None
        service_fields.normalise_cluster_ips(new, old)
        if old is not None:
            service_fields.keep_allocated(new, old)
        findings = validate_cluster_ips(new) or service_fields.default_ip_families(new, old)
        self.refuse(resource, new, findings)
        spec = new["spec"]
        if spec["type"] in service_fields.NEEDS_CLUSTER_IP:
            if not spec.get("clusterIP"):
                self.numbers += 1
                spec["clusterIP"] = f"10.96.1.{self.numbers}"
                spec["clusterIPs"] = [spec["clusterIP"]]
                self.taken.add(spec["clusterIP"])
            elif spec["clusterIP"] != "None" and (
                old is None or old["spec"].get("clusterIP") != spec["clusterIP"]
            ):
                if spec["clusterIP"] in self.taken or spec["clusterIP"].endswith((".0.0", ".255.255")):
                    finding = FieldError("FieldValueInvalid", "spec.clusterIPs", spec["clusterIPs"], "taken")
                    self.refuse(resource, new, [finding])
                self.taken.add(spec["clusterIP"])
        if spec["type"] in service_fields.NEEDS_NODE_PORT and spec.get("allocateLoadBalancerNodePorts", True):
            for port in spec.get("ports", ()):
                if "nodePort" not in port:
                    self.numbers += 1
                    port["nodePort"] = 30100 + self.numbers
        if service_fields.needs_health_check_port(spec) and not spec.get("healthCheckNodePort"):
            self.numbers += 1
            spec["healthCheckNodePort"] = 30100 + self.numbers


_SHORT = {"PersistentVolume": "pv", "PersistentVolumeClaim": "pvc"}
_PROJECTED: Object = {
    "defaultMode": 420,
    "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
        {
            "downwardAPI": {
                "items": [
                    {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}
                ]
            }
        },
    ],
}


def without_wording(body: Any) -> Any:
    """A status without its messages, an object without its managed fields."""
    if not isinstance(body, dict):
        return body
    body = copy.deepcopy(body)
    if body.get("kind") == "Status":
        body.pop("message", None)
        for cause in body.get("details", {}).get("causes", ()):
            cause.pop("message", None)
    elif isinstance(body.get("metadata"), dict):
        body["metadata"].pop("managedFields", None)
    return body


def replay(scenario: Object) -> list[str]:
    """What is not as recorded; raises Unanswerable when the model server does not know a request."""
    server, bindings = ModelServer(), Bindings()
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": bindings.values["ns"]}}
    server.answer({"method": "POST", "path": "/api/v1/namespaces", "body": namespace})
    for exchange in scenario["exchanges"]:
        try:
            code, body = server.answer(bindings.put(exchange["request"]))
        except ApiError as error:
            code, body = error.code, error.status
        expected = exchange["response"]
        found = [] if code == expected["status"] else [f"{code} instead of {expected['status']}: {body}"]
        found += bindings.differences(without_wording(expected["body"]), without_wording(body))
        if found:
            return [f"{exchange['id']} {difference}" for difference in found]
    return []


def scenarios(facts: Path, areas: tuple[str, ...] = AREAS) -> dict[str, Object]:
    """All recorded scenarios of the areas, by id."""
    found: dict[str, Object] = {}
    for area in areas:
        document = json.loads((facts / "kubernetes" / "golden" / f"{area}.json").read_text())
        found.update({scenario["id"]: scenario for scenario in document["scenarios"]})
    return found


@pytest.fixture(scope="module")
def recorded(facts_dir: Path) -> dict[str, Object]:
    return scenarios(facts_dir)


@pytest.mark.parametrize("identity", MUST_PASS.read_text().split())
def test_as_recorded(recorded: dict[str, Object], identity: str) -> None:
    assert replay(recorded[identity]) == []


def main(arguments: list[str]) -> None:
    """Count what passes; `-v` shows the differences of what does not, `-w` writes the list of what does."""
    facts = Path(__file__).resolve().parents[4] / "shared" / "data"
    passed, failed, unanswerable = [], [], []
    areas = [argument[2:] for argument in arguments if argument.startswith("-a")]
    texts = [argument for argument in arguments if not argument.startswith("-")]
    for identity, scenario in scenarios(facts, tuple(areas) or AREAS).items():
        if texts and not any(text in identity for text in texts):
            continue
        try:
            found = replay(scenario)
        except Unanswerable as reason:
            unanswerable.append(f"{identity}: {reason}")
            continue
        except Exception as error:
            found = [f"crash {error!r}"]
            if "-x" in arguments:
                raise
        if found:
            failed.append(identity)
            if "-v" in arguments:
                print(identity, *found[:6], sep="\n    ")
        else:
            passed.append(identity)
    print(f"{len(passed)} pass, {len(failed)} fail, {len(unanswerable)} not answerable")
    if "-w" in arguments:
        MUST_PASS.write_text("\n".join(sorted(passed)) + "\n")
    if "-u" in arguments:
        print(*unanswerable, sep="\n")
    if "-f" in arguments:
        print(*failed, sep=" ")


if __name__ == "__main__":
    main(sys.argv[1:])
