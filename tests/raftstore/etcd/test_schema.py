"""Our .proto files, and the reader of what they use."""

import pytest

from understudy.raftstore.etcd.schema import METHODS, SchemaError, messages, read_files


def test_a_request_has_the_bytes_that_etcd_reads() -> None:
    # Written by hand from the encoding of protobuf: field 1 and 2 as bytes, field 3 as a varint.
    put = messages.PutRequest(key=b"k", value=b"v", lease=300)
    assert put.SerializeToString() == b"\x0a\x01k\x12\x01v\x18\xac\x02"
    event = messages.Event(type=1, kv=messages.KeyValue(key=b"k", mod_revision=2))
    assert event.SerializeToString() == b"\x08\x01\x12\x05\x0a\x01k\x18\x02"


def test_a_transaction_is_one_of_its_kinds() -> None:
    operation = messages.RequestOp(request_put=messages.PutRequest(key=b"k"))
    assert operation.WhichOneof("request") == "request_put"
    operation.request_range.key = b"r"
    assert operation.WhichOneof("request") == "request_range"


def test_every_service_is_there_with_its_streams() -> None:
    services: dict[str, int] = {}
    for path in METHODS:
        service = path.split("/")[1].rpartition(".")[2]
        services[service] = services.get(service, 0) + 1
    assert services == {
        "KV": 5,
        "Watch": 1,
        "Lease": 5,
        "Cluster": 5,
        "Maintenance": 8,
        "Auth": 17,
        "Health": 2,
    }
    streams = {
        method.name: (method.client_streaming, method.server_streaming)
        for path, method in METHODS.items()
        if (method.client_streaming or method.server_streaming) and "Health" not in path
    }
    assert streams == {"Watch": (True, True), "LeaseKeepAlive": (True, True), "Snapshot": (False, True)}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("message A { B b = 1; }", "no message or enum 'B'"),
        ("message A { int64 b; }", "'=' expected, not ';'"),
        ("option x = 1;", "'option' at the top of a file"),
        ("message A { int64 b = 1 [deprecated]; }", "is not understood"),
    ],
)
def test_what_the_reader_does_not_know_is_an_error(text: str, complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        read_files({"a.proto": f'syntax = "proto3"; package p; {text}'})
