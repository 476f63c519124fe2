"""Which representation an Accept header gets."""

import orjson
import pytest
import yaml

from understudy.components.apiserver.negotiation import Rendering, negotiate
from understudy.components.apiserver.reads import ANY_SHAPE
from understudy.components.machinery.errors import ApiError

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
OLD_TABLE = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PROTOBUF = "application/vnd.kubernetes.protobuf"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, Rendering()),
        ("*/*", Rendering()),
        ("application/*", Rendering()),
        ("application/json", Rendering()),
        ("application/yaml", Rendering("yaml")),
        (PROTOBUF, Rendering("protobuf")),
        (f"{PROTOBUF},application/json", Rendering("protobuf")),
        ("text/html, application/json;q=0.5", Rendering()),
        (TABLE, Rendering(shape="table")),
        (
            f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Rendering(shape="table"),
        ),
        (
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
            Rendering(shape="table", shape_version="v1beta1"),
        ),
        (PARTIAL, Rendering(shape="partial")),
        # What cannot be made of it is passed over for what can.
        ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", Rendering()),
        ("application/json;as=Table;v=v1;g=other.io,application/yaml", Rendering("yaml")),
        (f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io,{TABLE}", Rendering(shape="table")),
    ],
)
def test_the_first_acceptable_entry_wins(accept: str | None, expected: Rendering) -> None:
    assert negotiate(accept, shapes=ANY_SHAPE) == expected


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "application/json;as=Nothing;g=x;v=v1"])
def test_nothing_acceptable_is_406(accept: str) -> None:
    with pytest.raises(ApiError) as refused:
        negotiate(accept, shapes=ANY_SHAPE)
    assert refused.value.code == 406


def test_a_stream_is_never_yaml() -> None:
    assert negotiate("application/yaml,application/json", streaming=True) == Rendering()
    with pytest.raises(ApiError):
        negotiate("application/yaml", streaming=True)


def test_shapes_are_only_those_that_the_answer_can_take() -> None:
    assert negotiate(f"{TABLE},application/json", shapes=frozenset()) == Rendering()


def test_encodings_of_one_value() -> None:
    value = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    assert orjson.loads(Rendering().encode(value)) == value
    assert Rendering(pretty=True).encode(value).count(b"\n") > 3
    assert yaml.safe_load(Rendering("yaml").encode(value)) == value
    assert Rendering("protobuf").encode(value)[:4] == b"k8s\0"
