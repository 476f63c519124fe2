"""The protobuf encoding carries every object unchanged, and reads what kubectl sends."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.components.machinery import protobuf, resources
from understudy.components.machinery.decoding import conform
from understudy.components.machinery.durations import format_duration, parse_duration
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.protobuf_messages import read_message, write_message
from understudy.components.machinery.schema import Schema, schema_for

BODIES = json.loads((Path(__file__).parent / "data" / "kubectl_1_32_bodies.json").read_bytes())

names = st.text("abcxyz-.é", min_size=1, max_size=4)
scalars: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=5),
    "boolean": st.booleans(),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "quantity": st.sampled_from(["0", "1", "100m", "1Gi", "-2k"]),
    "int-or-string": st.integers(-(2**31), 2**31 - 1) | st.text(max_size=4),
    "time": st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat() + "Z"),
    "micro-time": st.datetimes().map(lambda t: t.isoformat(timespec="microseconds") + "Z"),
    "bytes": st.binary(max_size=6).map(lambda b: base64.b64encode(b).decode()),
}


@st.composite
def values(draw: st.DrawFn, schema: Schema, depth: int = 6) -> Any:
    """A value of a schema; lists and maps are not empty, because the wire cannot say empty."""
    match schema.type:
        case "object":
            keys = sorted(schema.fields)
            if depth <= 0:
                return {}
            chosen = draw(st.lists(st.sampled_from(keys), max_size=4, unique=True)) if keys else []
            made = {}
            for key in chosen:
                if not (depth < 6 and key in ("apiVersion", "kind") and "metadata" in schema.fields):
                    made[key] = draw(values(schema.fields[key], depth - 1))
            return made
        case "list":
            assert schema.item is not None
            return draw(st.lists(values(schema.item, depth - 1), min_size=1, max_size=2))
        case "map":
            assert schema.item is not None
            return draw(st.dictionaries(names, values(schema.item, depth - 1), min_size=1, max_size=2))
        case "integer":
            bits = 31 if schema.format == "int32" else 63
            return draw(st.integers(-(2**bits), 2**bits - 1))
        case "any":
            if schema.name.endswith("JSONSchemaPropsOrBool"):
                return draw(st.just(False) | st.just({"type": "string"}))
            if schema.name.endswith("JSONSchemaPropsOrArray"):
                return draw(st.sampled_from([{"type": "string"}, [{"type": "string"}, {}]]))
            if schema.name.endswith("JSONSchemaPropsOrStringArray"):
                return draw(st.sampled_from([{"type": "string"}, ["a", "b"]]))
            return draw(st.dictionaries(names, st.none() | st.integers(0, 9) | names, max_size=2))
        case type_:
            return draw(scalars[type_])


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    resource = draw(st.sampled_from(resources.builtin_resources()))
    schema = schema_for(resource.api_version, resource.kind)
    assert schema is not None
    value = draw(values(schema))
    return {**value, "apiVersion": resource.api_version, "kind": resource.kind}


@settings(max_examples=300, deadline=None)
@given(objects())
def test_an_object_survives(obj: dict[str, Any]) -> None:
    assert protobuf.decode(protobuf.encode(obj)) == obj


@settings(max_examples=100, deadline=None)
@given(objects(), st.data())
def test_a_damaged_body_is_refused_and_never_crashes(obj: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(protobuf.encode(obj))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    for damaged in (bytes(body), bytes(body[:at])):
        try:
            protobuf.decode(damaged, "Pod")
        except ApiError as error:
            assert (error.code, error.reason) == (400, "BadRequest")


def test_recorded_objects_survive(facts_dir: Path) -> None:
    """Every object that the recorded server answered with, and the lists of them."""
    compared = 0
    for path in sorted((facts_dir / "kubernetes" / "golden").glob("*.json")):
        for scenario in json.loads(path.read_bytes())["scenarios"]:
            for exchange in scenario["exchanges"]:
                obj = replace(exchange["response"].get("body"))
                if not isinstance(obj, dict) or not is_builtin(obj):
                    continue
                obj = without_empty(obj, schema_for(obj["apiVersion"], obj["kind"]))
                assert protobuf.decode(protobuf.encode(obj)) == obj, exchange["id"]
                compared += 1
    assert compared > 500


def test_discovery_documents_survive(facts_dir: Path) -> None:
    documents = json.loads((facts_dir / "kubernetes" / "discovery.json").read_bytes())["legacy"]
    for path, document in documents.items():
        document.pop("serverAddressByClientCIDRs", None)
        decoded = protobuf.decode(protobuf.encode(document))
        assert without_unset(decoded) == without_unset({"apiVersion": "v1", **document}), path


def without_unset(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_unset(item) for key, item in value.items() if item not in ("", [])}
    return [without_unset(item) for item in value] if isinstance(value, list) else value


def is_builtin(obj: dict[str, Any]) -> bool:
    return "kind" in obj and schema_for(obj.get("apiVersion", ""), obj["kind"]) is not None


def replace(value: Any) -> Any:
    """A recorded value with its placeholders made values of their types."""
    if isinstance(value, dict):
        if list(value) == ["$repeat"]:
            return value["$repeat"][0] * value["$repeat"][1]
        return {key: replace(item) for key, item in value.items()}
    if isinstance(value, list):
        return [replace(item) for item in value]
    if isinstance(value, str) and value.startswith("{{") and value.endswith("}}"):
        name = value[2:-2].partition(":")[0]
        by_name: dict[str, Any] = {"time": "2026-01-01T00:00:00Z", "microtime": "2026-01-01T00:00:00.000001Z"}
        return by_name.get(name, 7 if name in ("int", "num") else value)
    return value


def without_empty(value: Any, schema: Schema | None, *, keep_identity: bool = True) -> Any:
    """A typed value without nulls, empty lists and maps, and identities of embedded objects."""
    if schema is None or schema.type == "any":
        return value
    if isinstance(value, dict) and schema.type == "object":
        made = {}
        for key, item in value.items():
            if item is None or (item in ([], {}) and schema.fields[key].type in ("list", "map")):
                continue
            if key in ("apiVersion", "kind") and "metadata" in schema.fields and not keep_identity:
                continue
            made[key] = without_empty(item, schema.fields[key], keep_identity=False)
        return made
    if isinstance(value, list):
        return [without_empty(item, schema.item, keep_identity=False) for item in value]
    if isinstance(value, dict):
        return {key: without_empty(item, schema.item, keep_identity=False) for key, item in value.items()}
    return value


@pytest.mark.parametrize("row", BODIES, ids=lambda row: row["path"])
def test_bodies_of_kubectl_are_read_and_typed(row: dict[str, str]) -> None:
    obj = protobuf.decode(base64.b64decode(row["body"]))
    schema = schema_for(obj["apiVersion"], obj["kind"])
    assert schema is not None
    assert conform(schema, obj) == (obj, [])
    assert protobuf.decode(protobuf.encode(obj)) == obj


def kubectl(path_end: str, index: int = 0) -> dict[str, Any]:
    found = [row for row in BODIES if row["path"].endswith(path_end)]
    return protobuf.decode(base64.b64decode(found[index]["body"]))


def test_what_kubectl_meant() -> None:
    web = kubectl("/deployments")
    assert web["spec"]["replicas"] == 0, "an explicit zero is kept"
    (container,) = web["spec"]["template"]["spec"]["containers"]
    assert (container["name"], container["image"]) == ("nginx", "nginx")
    assert container["ports"][0]["containerPort"] == 80
    assert kubectl("/secrets")["data"] == {"a": "Yg=="}
    assert [kubectl("/services", i)["spec"]["ports"][0]["targetPort"] for i in (0, 1)] == [8080, "http"]
    assert kubectl("/resourcequotas")["spec"]["hard"] == {"cpu": "1", "memory": "1G", "pods": "2"}
    assert kubectl("/poddisruptionbudgets")["spec"]["minAvailable"] == "50%"
    assert kubectl("/token")["spec"]["expirationSeconds"] == 600
    assert "creationTimestamp" not in kubectl("/namespaces")["metadata"], "an unset time is absent"


def test_wire_form_of_a_small_object() -> None:
    """Worked out by hand from the encoding rules."""
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    type_meta = b"\x0a\x0f" + b"\x0a\x02v1" + b"\x12\x09ConfigMap"
    raw = b"\x12\x0f" + b"\x0a\x03\x0a\x01a" + b"\x12\x06\x0a\x01k\x12\x01v"
    assert (
        protobuf.encode(obj) == b"k8s\0" + type_meta + raw.replace(b"\x12\x0f", b"\x12\x0d") + b"\x1a\0\x22\0"
    )


def test_unknown_fields_are_skipped_and_packed_numbers_read() -> None:
    name = "k8s.io.api.core.v1.PodSecurityContext"
    groups = write_message(name, {"supplementalGroups": [1, -1, 300]})
    number = groups[0] >> 3
    packed = bytes([number << 3 | 2, 13]) + b"\x01" + b"\xff" * 9 + b"\x01" + b"\xac\x02"
    unknown = b"\xf8\x07\x05" + b"\xfa\x07\x02hi" + b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4)
    for body in (groups, packed, unknown + packed, packed + unknown):
        assert read_message(name, body) == {"supplementalGroups": [1, -1, 300]}


def test_a_map_entry_without_its_value_is_an_empty_value() -> None:
    assert read_message("k8s.io.api.core.v1.ConfigMap", b"\x12\x03\x0a\x01k") == {"data": {"k": ""}}
    counters = b"\x12\x03\x0a\x01k"
    assert read_message("k8s.io.api.resource.v1.CounterSet", counters) == {"counters": {"k": {}}}


def test_options_of_any_version_and_envelopes_of_json() -> None:
    options = {"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    assert protobuf.decode(protobuf.encode(options)) == options
    status = {"apiVersion": "v1", "kind": "Status", "status": "Success", "code": 200}
    assert protobuf.decode(protobuf.encode(status)) == status
    text = b'{"apiVersion":"v1","kind":"Pod","spec":{}}'
    body = b"k8s\0\x12" + bytes([len(text)]) + text + b"\x22\x10application/json"
    assert protobuf.decode(body) == {"apiVersion": "v1", "kind": "Pod", "spec": {}}


@pytest.mark.parametrize("body", [b"", b'{"apiVersion":"v1"}', b"k8s\0\xff", b"k8s\0\x0a\x7f", b"k8s\0"])
def test_what_is_no_protobuf_object(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        protobuf.decode(body, "ConfigMap")
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
    assert "must be of type ConfigMap" in caught.value.message


def test_a_value_that_does_not_fit_is_not_written() -> None:
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod"}
    for spec in ({"nope": 1}, {"nodeName": 5}, {"hostNetwork": "x"}, 7):
        with pytest.raises(ValueError, match=r"."):
            protobuf.encode({**pod, "spec": spec})
    with pytest.raises(KeyError):
        protobuf.encode({"apiVersion": "x.io/v1", "kind": "Foo"})


def test_a_watch_frame() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    frame = protobuf.encode_watch_event("ADDED", pod)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    event = read_message("k8s.io.apimachinery.pkg.apis.meta.v1.WatchEvent", frame[4:])
    assert event == {"type": "ADDED", "object": pod}


def test_content_types() -> None:
    assert protobuf.is_protobuf("application/vnd.kubernetes.protobuf; stream=watch")
    assert not protobuf.is_protobuf("application/json")


@given(st.integers(-(2**63), 2**63 - 1))
def test_durations_survive(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds", "canonical"),
    [
        ("1h2m3.5s", 3_723_500_000_000, "1h2m3.5s"),
        ("0", 0, "0s"),
        ("90m", 5400 * 10**9, "1h30m0s"),
        ("-1.5ms", -1_500_000, "-1.5ms"),
    ],
)
def test_durations(text: str, nanoseconds: int, canonical: str) -> None:
    assert parse_duration(text) == nanoseconds
    assert format_duration(nanoseconds) == canonical


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "-", "1h 2m"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)
