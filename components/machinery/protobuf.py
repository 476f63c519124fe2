"""Objects in the protobuf encoding, which kubectl 1.32+ and controller-runtime send for built-in kinds.

A body is four magic bytes and an envelope that names apiVersion and kind; the messages are in
`protobuf_messages`. A watch is a stream of frames, each a length and a WatchEvent.
"""

from understudy.components.machinery.decoding import unrecognized
from understudy.components.machinery.errors import Object
from understudy.components.machinery.json_text import MalformedText, serialize
from understudy.components.machinery.protobuf_messages import (
    MAGIC,
    read_unknown,
    write_unknown,
)
from understudy.components.machinery.protobuf_wire import MalformedMessage, record

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
WATCH_CONTENT_TYPE = CONTENT_TYPE + ";stream=watch"

__all__ = [
    "CONTENT_TYPE",
    "MAGIC",
    "WATCH_CONTENT_TYPE",
    "decode",
    "encode",
    "encode_watch_event",
    "is_protobuf",
]


def is_protobuf(content_type: str) -> bool:
    """Does a Content-Type header (with or without parameters) say protobuf?"""
    return content_type.partition(";")[0].strip().lower() == CONTENT_TYPE


def decode(body: bytes, kind: str = "") -> Object:
    """The JSON form of the object, with apiVersion and kind.

    Empty members that Go writes (`hostNetwork: false`, `status: {}`) are there: pass it through the same
    steps as a JSON body. `kind` is what the path expects, for the message. Raises a 400 ApiError.
    """
    try:
        obj = read_unknown(body)
        serialize(obj)  # refuses what is nested too deep to be written again
        return obj
    except (MalformedMessage, MalformedText) as error:
        raise unrecognized(str(error), body, kind) from None
    except KeyError as error:
        raise unrecognized(str(error.args[0]), body, kind) from None


def encode(obj: Object) -> bytes:
    """The body of an object of a built-in kind (or a list, a Status). KeyError for another kind."""
    return write_unknown(obj)


def encode_watch_event(event_type: str, obj: Object) -> bytes:
    """One frame of a watch: 4 bytes of length, big-endian, then the event; the object keeps its envelope."""
    event = record(1, event_type.encode()) + record(2, record(1, write_unknown(obj)))
    return len(event).to_bytes(4, "big") + event
