"""Bodies are read as the recorded server reads them."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery import decoding, protobuf, resources
from understudy.components.machinery.decoding import (
    check_fields,
    check_types,
    conform,
    decode_json,
    decode_yaml,
    prune_unknown,
)
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.json_text import parse_json
from understudy.components.machinery.schema import Schema, schema_for
from understudy.components.machinery.yaml_text import parse_yaml

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)


def schema_of(api_version: str, kind: str) -> Schema:
    schema = schema_for(api_version, kind)
    assert schema is not None
    return schema


POD = schema_of("v1", "Pod")


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


# Texts


@given(json_values, st.sampled_from([None, 1]), st.booleans())
def test_json_without_duplicates_is_read_as_is(value: Any, indent: int | None, ascii_only: bool) -> None:
    assert parse_json(orjson.dumps(value)) == (value, [])
    assert parse_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()) == (value, [])


@given(st.dictionaries(st.sampled_from("abc"), json_values, min_size=1), st.data())
def test_a_key_said_twice_is_found(value: dict[str, Any], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(sorted(value)))
    body = json.dumps(value)[:-1] + f", {json.dumps(again)}: 7}}"
    nested = b'{"x": [1, ' + body.encode() + b"]}"
    assert parse_json(nested) == ({"x": [1, value | {again: 7}]}, [f'duplicate field "x[1].{again}"'])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "unexpected end of JSON input"),
        (b"", "unexpected end of JSON input"),
        (b"not json", "invalid character 'o' in literal null (expecting 'u')"),
        (b"{bad", "invalid character 'b' looking for beginning of object key string"),
        (b'{"a":1} trailing', "invalid character 't' after top-level value"),
        (b"NaN", "invalid character 'N' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
    ],
)
def test_malformed_json(body: bytes, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        decode_json(body)
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
    assert words in caught.value.message


def test_texts_that_go_takes_and_orjson_does_not() -> None:
    assert parse_json(b'{"a":"\\ud800"}') == ({"a": "\ufffd"}, [])
    assert parse_json(b'{"a":"\xff"}') == ({"a": "\ufffd"}, [])


def test_numbers_of_any_length() -> None:
    assert parse_json(b'{"a": 18446744073709551616, "b": ' + b"0." + b"1" * 9000 + b"}")[0]["a"] == 2.0**64
    assert parse_json(b'{"a": 9223372036854775807}')[0] == {"a": 2**63 - 1}
    for digits in (b"9" * 9000, b"1e999", b"-1e999"):
        with pytest.raises(ApiError, match="number"):
            decode_json(b'{"a": ' + digits + b"}")


@pytest.mark.parametrize("depth", [200, 253, 254, 255, 300, 900, 1000, 1020, 1030, 100_000])
def test_a_deep_text_is_refused_not_fatal(depth: int) -> None:
    for text in (b"[" * depth, b"[" * depth + b"]" * depth, b'{"a": ' * depth + b"1" + b"}" * depth):
        with contextlib.suppress(ApiError):
            assert orjson.dumps(decode_json(text)[0])
        with contextlib.suppress(ApiError):
            assert orjson.dumps(decode_yaml(text[:5000])[0])
    with contextlib.suppress(ApiError):
        schema: Any = {}
        for _ in range(min(depth, 400)):
            schema = {"properties": {"a": schema}}
        spec = {"versions": [{"schema": {"openAPIV3Schema": schema}}]}
        crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
        conform(schema_of("apiextensions.k8s.io/v1", "CustomResourceDefinition"), crd)
        assert orjson.dumps(protobuf.decode(protobuf.encode(crd)))
    with pytest.raises(ApiError):
        decode_json(b"[" * depth)
    with pytest.raises(ApiError):
        decode_yaml(b"[" * 10_000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: y", {"a": True}),
        ("a: 'y'", {"a": "y"}),
        ("a: off", {"a": False}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 0o17", {"a": 15}),
        ("a: 017", {"a": 15}),
        ("a: 08", {"a": 8}),
        ("a: 0x1F", {"a": 31}),
        ("a: 1_000", {"a": 1000}),
        ("a: 1e3", {"a": 1000}),
        ("a: 1.5", {"a": 1.5}),
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("a: 2020-01-01T00:00:00Z", {"a": "2020-01-01T00:00:00Z"}),
        ("a: !!str 5", {"a": "5"}),
        ("a: =", {"a": "="}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("1: a\ntrue: b\n1.5: c", {"1": "a", "true": "b", "1.5": "c"}),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("a: 1\n---\nb: [", {"a": 1}),
        ("", None),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
    ],
)
def test_yaml_scalars(text: str, value: Any) -> None:
    assert parse_yaml(text.encode()) == (value, [])


def test_yaml_duplicates_say_their_line() -> None:
    body = b'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {a: "1"}\ndata: {b: "2"}\n'
    obj, duplicates = decode_yaml(body)
    assert obj["data"] == {"b": "2"}
    assert duplicates == ['line 5: key "data" already set in map']


def test_yaml_errors() -> None:
    with pytest.raises(ApiError, match="line 1: did not find expected node content"):
        decode_yaml(b"{bad: [")
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(ApiError, match="excessive aliasing"):
        decode_yaml(bomb.encode())
    with pytest.raises(ApiError, match="contains itself"):
        decode_yaml(b"a: &a [*a]")


@given(json_values)
def test_aliases_are_copied(value: Any) -> None:
    obj, _ = parse_yaml(b"a: &x {k: [1]}\nb: *x\nc: " + json.dumps(json.dumps(value)).encode())
    assert obj["a"] == obj["b"]
    assert obj["a"] is not obj["b"]


# Schemas


def test_unknown_fields_are_named_with_their_path_and_dropped() -> None:
    obj = pod(containers=[{"name": "c", "imagee": "x"}], replica=1, nodeSelector={"a.b/c": "d"})
    found = ['unknown field "spec.containers[0].imagee"', 'unknown field "spec.replica"']
    made, unknown = conform(POD, obj)
    assert unknown == check_fields(POD, obj) == found
    assert made == prune_unknown(POD, obj)
    assert made["spec"] == {"containers": [{"name": "c"}], "nodeSelector": {"a.b/c": "d"}}
    assert check_fields(POD, made) == []


def test_nulls() -> None:
    schema = schema_of("v1", "ConfigMap")
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"labels": None}, "data": {"a": None}}
    assert conform(schema, obj)[0] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {},
        "data": {"a": ""},
    }


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (
            pod(nodeName=True),
            "cannot unmarshal bool into Go struct field PodSpec.spec.nodeName of type string",
        ),
        (
            pod(containers={"a": 1}),
            "object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            pod(containers=[{"ports": [{"containerPort": 4294967296}]}]),
            "number 4294967296 into Go struct field ContainerPort.spec.containers.ports.containerPort of",
        ),
        (
            pod(terminationGracePeriodSeconds="x"),
            "string into Go struct field PodSpec.spec.terminationGracePeriod",
        ),
        (pod(terminationGracePeriodSeconds=1.5), "number 1.5 into Go struct field"),
        ({"kind": "Pod", "metadata": "x"}, "string into Go struct field Pod.metadata of type v1.ObjectMeta"),
        (
            {"kind": "Pod", "metadata": {"labels": {"a": 1}}},
            "field ObjectMeta.metadata.labels of type string",
        ),
        (pod(containers=[{"resources": {"limits": {"cpu": "x"}}}]), "quantities must match"),
        (pod(containers=[{"resources": {"limits": {"cpu": "1Q"}}}]), "quantities must match"),
        (pod(containers=[{"resources": {"limits": {"cpu": "1.1.1"}}}]), "unable to parse"),
        ({"kind": "Pod", "metadata": {"creationTimestamp": "today"}}, 'parsing time "today"'),
        ({"kind": "Pod", "metadata": {"creationTimestamp": "2026-02-30T00:00:00Z"}}, "parsing time"),
        (pod(containers=[{"livenessProbe": {"httpGet": {"port": True}}}]), "bool into Go struct field"),
    ],
)
def test_wrong_types(obj: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_types(POD, obj)
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
    assert words in caught.value.message
    assert caught.value.message.startswith("Pod in version")
    assert check_fields(POD, obj) == []


def test_scalars_are_rewritten() -> None:
    obj = pod(containers=[{"resources": {"limits": {"cpu": 2, "memory": 0.5}}}])
    obj["metadata"] = {"creationTimestamp": "2026-01-01T02:00:00.9+02:00"}
    made, _ = conform(POD, obj)
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "0.5"}
    assert made["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
    lease = {"spec": {"renewTime": "2026-01-01T02:00:00.123456+02:00"}}
    assert conform(schema_of("coordination.k8s.io/v1", "Lease"), lease)[0] == {
        "spec": {"renewTime": "2026-01-01T00:00:00.123456Z"}
    }


def test_a_custom_schema_may_keep_what_it_does_not_declare() -> None:
    schema = Schema(type="object", fields={"a": Schema(type="string")}, preserve_unknown=True)
    assert conform(schema, {"a": "x", "b": {"c": None}}) == ({"a": "x", "b": {"c": None}}, [])


# Recordings


def exchanges(facts_dir: Path, *areas: str) -> Iterator[dict[str, Any]]:
    for path in sorted((facts_dir / "kubernetes" / "golden").glob("*.json")):
        if not areas or path.stem in areas:
            for scenario in json.loads(path.read_bytes())["scenarios"]:
                yield from scenario["exchanges"]


def test_recorded_creations_and_updates(facts_dir: Path) -> None:
    """Unknown-field warnings, strict errors, wrong types and malformed bodies are those of the recording."""
    compared = 0
    for exchange in exchanges(facts_dir):
        request, response = exchange["request"], exchange["response"]
        body = request.get("body")
        content_type = request["headers"].get("content-type", "") if "headers" in request else ""
        if request.get("method") not in ("POST", "PUT") or body is None or "/apis/{{" in request["path"]:
            continue
        if not content_type.startswith(("application/json", "application/yaml")) or "$base64" in body:
            continue
        kind = kind_of(request["path"])
        schema = schema_for(*kind) if kind else None
        text = body["$raw"].encode() if "$raw" in body else json.dumps(replace(body)).encode()
        if schema is None or kind is None:
            continue
        compared += 1
        message = (response["body"] or {}).get("message", "") if isinstance(response["body"], dict) else ""
        refused = response["status"] == 400 and any(
            words in message for words in ("unmarshal", "illegal base64", "parse error", "strict decoding")
        )
        warned = [w for w in header(response, "warning") if "unknown field" in w or "duplicate field" in w]
        level = dict(request.get("query") or ()).get("fieldValidation", "Warn")
        try:
            decode = decode_yaml if "yaml" in content_type else decode_json
            obj, duplicates = decode(text, kind[1])
            _, unknown = conform(schema, obj)
            if level == "Strict" and (duplicates or unknown):
                raise decoding.strict_error(*kind, [*duplicates, *unknown])
        except ApiError as error:
            assert refused, (exchange["id"], error, message)
            assert error.reason == response["body"]["reason"]
        else:
            assert not refused, (exchange["id"], message)
            if level == "Warn" and response["status"] < 300:
                said = sorted(f'299 - "{w}"'.replace("\\", "") for w in [*duplicates, *unknown])
                assert said == sorted(w.replace("\\", "") for w in warned), exchange["id"]
    assert compared > 400


def header(response: dict[str, Any], name: str) -> list[str]:
    value = response["headers"].get(name, [])
    return [value] if isinstance(value, str) else value


def replace(body: Any) -> Any:
    """A recorded body with its placeholders made harmless and its repetitions written out."""
    if isinstance(body, dict):
        if list(body) == ["$repeat"]:
            text, times = body["$repeat"]
            return text * times
        return {key: replace(value) for key, value in body.items()}
    if isinstance(body, list):
        return [replace(value) for value in body]
    if isinstance(body, str):
        return body.replace("{{time}}", "2026-01-01T00:00:00Z").replace(
            "{{microtime}}", "2026-01-01T00:00:00.000000Z"
        )
    return body


def kind_of(path: str) -> tuple[str, str] | None:
    """The apiVersion and kind that a path takes."""
    parts = path.strip("/").split("/")
    if parts[0] not in ("api", "apis") or len(parts) < 4:
        return None
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("finalize", "status"):
        rest = rest[2:]
    resource = resources.lookup(group, version, rest[0])
    if resource is None:
        return None
    if len(rest) > 2:
        below = resources.subresource(resource, rest[2])
        return (below.api_version, below.kind) if below else None
    return resource.api_version, resource.kind
