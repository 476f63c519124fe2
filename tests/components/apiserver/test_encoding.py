"""Objects in the store and on the wire: the same bytes but for the resourceVersion."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.apiserver.encoding import (
    collection_key,
    encode_object,
    members,
    object_store_key,
    stored,
    stored_object,
    with_resource_version,
)
from understudy.components.machinery.resources import CONFIG_MAPS, DEPLOYMENTS, NODES

TEXTS = st.text(max_size=20) | st.sampled_from(['"metadata":{', '"resourceVersion":"1",', "\\", '"'])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    """ConfigMaps with anything in them, their members in any order."""
    metadata = {"name": "n", "namespace": "ns", "uid": "u"} | draw(
        st.fixed_dictionaries(
            {}, optional={"labels": st.dictionaries(TEXTS, TEXTS, max_size=3), "annotations": VALUES}
        )
    )
    if draw(st.booleans()):
        metadata["resourceVersion"] = "5"
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": draw(VALUES)}
    return {key: obj[key] for key in draw(st.permutations(list(obj)))}


@given(objects(), st.integers(1, 2**63))
def test_what_is_served_is_what_was_stored_with_its_revision(obj: dict[str, Any], revision: int) -> None:
    data = encode_object(obj)
    assert "resourceVersion" not in orjson.loads(data)["metadata"]
    entry = stored(CONFIG_MAPS, data, revision)
    expected = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
    assert orjson.loads(entry.wire) == expected
    assert entry.parse() == expected
    assert entry.wire.startswith(b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{')


@given(objects())
def test_an_item_of_a_list_has_no_kind_and_api_version(obj: dict[str, Any]) -> None:
    entry = stored(CONFIG_MAPS, encode_object(obj), 7)
    item = orjson.loads(b"{" + bytes(members(entry.wire)))
    assert item == {key: value for key, value in entry.parse().items() if key not in ("kind", "apiVersion")}


@given(objects())
def test_an_object_at_hand_need_not_be_read_again(obj: dict[str, Any]) -> None:
    data = encode_object(obj)
    read, made = stored(CONFIG_MAPS, data, 3), stored_object(CONFIG_MAPS, obj, data, 3)
    for name in ("namespace", "name", "uid", "labels", "fields", "revision", "wire"):
        assert getattr(read, name) == getattr(made, name)


@given(objects())
def test_encoding_does_not_change_the_object(obj: dict[str, Any]) -> None:
    before = orjson.dumps(obj)
    encode_object(obj)
    assert orjson.dumps(obj) == before


def test_what_was_not_stored_has_no_resource_version() -> None:
    data = encode_object({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}})
    assert with_resource_version(data, 0) == data


def test_keys_are_those_of_etcd() -> None:
    assert object_store_key(CONFIG_MAPS, "ns", "n") == b"/registry/configmaps/ns/n"
    assert object_store_key(NODES, "", "n") == b"/registry/nodes/n"
    assert object_store_key(DEPLOYMENTS, "ns", "n") == b"/registry/apps/deployments/ns/n"
    assert collection_key(DEPLOYMENTS) == b"/registry/apps/deployments/"


@given(objects(), st.integers(1, 2**63))
def test_metadata_can_be_cut_out(obj: dict[str, Any], revision: int) -> None:
    entry = stored(CONFIG_MAPS, encode_object(obj), revision)
    for _ in range(2):
        assert orjson.loads(entry.metadata) == entry.parse()["metadata"]
    entry.forget_wire()
    assert orjson.loads(entry.metadata) == entry.parse()["metadata"]


def test_metadata_that_somebody_else_wrote_with_spaces_can_be_cut_out_too() -> None:
    data = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{ "name": "n" }, "data": {"a": "b"}}'
    entry = stored(CONFIG_MAPS, data, 3)
    for _ in range(2):
        assert orjson.loads(entry.metadata) == {"name": "n", "resourceVersion": "3"}
