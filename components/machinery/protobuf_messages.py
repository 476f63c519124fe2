"""Protobuf messages to and from their JSON form, by the shipped field tables.

Reading keeps what is on the wire: Go writes every member that is not a pointer, empty or not, and only
those pointers that are set, so that an explicit zero (`replicas: 0`) and an empty one (`hostNetwork: false`)
both appear. `defaults` leaves out the latter, as it does for JSON bodies. Times that are unset are left out.
"""

import base64
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import orjson
from attrs import define, field, frozen

from understudy.components.machinery import facts
from understudy.components.machinery.durations import format_duration, parse_duration
from understudy.components.machinery.protobuf_wire import (
    BYTES,
    FIXED64,
    READERS,
    VARINT,
    MalformedMessage,
    Reader,
    packed_reader,
    read_string,
    read_varint,
    record,
    skip,
    varint,
)
from understudy.components.machinery.scalars import moment

MAGIC = b"k8s\0"
"""Starts a body, and a raw extension that holds protobuf."""

_META = "k8s.io.apimachinery.pkg.apis.meta.v1."
_EXTENSIONS = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Writer = Callable[[Any], bytes]
"""The contents of a length-delimited record, without its length."""


def read_message(name: str, content: bytes) -> Any:
    """The JSON form of a message, without apiVersion and kind. Raises MalformedMessage."""
    return _read_whole(_codec(name).read, content, 0)


def _read_whole(read: Reader, content: bytes, at: int) -> Any:
    try:
        return read(content, at, len(content))
    except (IndexError, struct.error):
        raise MalformedMessage("unexpected EOF") from None
    except RecursionError:
        raise MalformedMessage("exceeded max depth") from None


def write_message(name: str, value: Any) -> bytes:
    """The wire form of a message; what the value lacks is not written.

    Raises ValueError for a field that the message does not have or a value that does not fit it.
    """
    return _codec(name).write(value)


@frozen
class _Codec:
    read: Reader
    write: Writer


@cache
def _codec(name: str) -> _Codec:
    special = _SPECIAL.get(name)
    if special is not None:
        return special
    message = _Message(name, facts.table("protobuf.tsv.gz")[name])
    return _Codec(message.read, message.write)


@frozen
class _Field:
    """One field of a message."""

    number: int
    json_name: str
    """Empty: the member is flattened into its parent."""
    type: str
    """A scalar type, or the name of a message."""
    label: str
    """`optional`, `repeated` or `map`."""

    @property
    def wire_type(self) -> int:
        if self.label == "map":
            return BYTES
        return {"int32": VARINT, "int64": VARINT, "bool": VARINT, "double": FIXED64}.get(self.type, BYTES)


@define
class _Message:
    """The codec of one message; what its fields need is looked up when they are met."""

    name: str
    row: dict[str, list[str]]
    _by_tag: dict[int, tuple[_Field, Reader]] = field(factory=dict)
    _by_json_name: dict[str, _Field] = field(factory=dict)
    _inline: list[_Field] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        for number, (_, json_name, type_, label) in self.row.items():
            made = _Field(int(number), json_name, type_, label.partition("<")[0])
            self._by_tag[made.number << 3 | made.wire_type] = (made, _late_reader(made))
            if made.label == "repeated" and made.wire_type != BYTES:
                self._by_tag[made.number << 3 | BYTES] = (made, packed_reader(made.type))
            if json_name:
                self._by_json_name[json_name] = made
            else:
                self._inline.append(made)

    def read(self, buffer: bytes, at: int, end: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        by_tag = self._by_tag
        while at < end:
            tag = buffer[at]
            at += 1
            if tag & 0x80:
                tag, at = read_varint(buffer, at - 1)
            known = by_tag.get(tag)
            if known is None:
                at = skip(buffer, at, end, tag)
                continue
            about, reader = known
            wire_type = tag & 7
            if wire_type == BYTES:
                length = buffer[at]
                at += 1
                if length & 0x80:
                    length, at = read_varint(buffer, at - 1)
                stop = at + length
                if stop > end:
                    raise MalformedMessage("unexpected EOF")
            elif wire_type == VARINT:
                stop = at + 1
                while buffer[stop - 1] & 0x80:
                    stop += 1
            else:
                stop = at + 8
            if stop > end:
                raise MalformedMessage("unexpected EOF")
            value = reader(buffer, at, stop)
            at = stop
            label = about.label
            if label == "optional":
                if not about.json_name:
                    made.update(value)
                elif value is not None:
                    made[about.json_name] = value
            elif label == "map":
                made.setdefault(about.json_name, {})[value[0]] = value[1]
            elif wire_type == BYTES and about.wire_type != BYTES:
                made.setdefault(about.json_name, []).extend(value)
            else:
                made.setdefault(about.json_name, []).append(value)
        return made

    def write(self, value: Any) -> bytes:
        if not isinstance(value, dict):
            raise ValueError(f"{self.name} cannot be made of {value!r}")
        parts: list[tuple[int, bytes]] = []
        flattened: dict[str, Any] = {}
        for key, item in value.items():
            about = self._by_json_name.get(key)
            if about is not None:
                if item is not None:
                    parts.append((about.number, _write_field(about, item)))
            elif key not in ("apiVersion", "kind"):  # of embedded objects: they exist in JSON only
                flattened[key] = item
        for about in self._inline:
            names = _json_names(about.type)
            member = {key: flattened.pop(key) for key in list(flattened) if key in names}
            parts.append((about.number, _write_field(about, member)))
        if flattened:
            raise ValueError(f"{self.name} has no field {sorted(flattened)}")
        return b"".join(part for _, part in sorted(parts))


@cache
def _json_names(name: str) -> frozenset[str]:
    """The JSON names of a message's fields, with those of the members flattened into it."""
    names: set[str] = set()
    for _, json_name, type_, _ in facts.table("protobuf.tsv.gz")[name].values():
        names |= {json_name} if json_name else _json_names(type_)
    return frozenset(names)


def _late_reader(about: _Field) -> Reader:
    """A reader that finds the codec of its message when first used: messages may be recursive."""
    scalar = READERS.get(about.type)
    if about.label == "map":
        return _map_entry_reader(about.type)
    if scalar is not None:
        return scalar
    codec: _Codec | None = None

    def read(buffer: bytes, at: int, end: int) -> Any:
        nonlocal codec
        if codec is None:
            codec = _codec(about.type)
        return codec.read(buffer, at, end)

    return read


def _map_entry_reader(type_: str) -> Reader:
    """A value that is not on the wire is its type's empty one."""

    def read(buffer: bytes, at: int, end: int) -> tuple[str, Any]:
        read_value = READERS.get(type_) or _codec(type_).read
        key, value = "", read_value(b"", 0, 0)
        while at < end:
            tag, at = read_varint(buffer, at)
            if tag not in (1 << 3 | BYTES, 2 << 3 | BYTES):
                at = skip(buffer, at, end, tag)
                continue
            length, at = read_varint(buffer, at)
            if at + length > end:
                raise MalformedMessage("unexpected EOF")
            if tag >> 3 == 1:
                key = read_string(buffer, at, at + length)
            else:
                value = read_value(buffer, at, at + length)
            at += length
        return key, value

    return read


def _write_field(about: _Field, value: Any) -> bytes:
    if about.label == "map":
        return b"".join(
            record(about.number, record(1, key.encode()) + record(2, _content(about.type, value[key])))
            for key in sorted(value)
        )
    if about.label == "repeated":
        return b"".join(_write_one(about, item) for item in value)
    return _write_one(about, value)


def _write_one(about: _Field, value: Any) -> bytes:
    match about.type:
        case "int32" | "int64" | "bool":
            if not isinstance(value, int):
                raise ValueError(f"{about.json_name} is no integer: {value!r}")
            return varint(about.number << 3 | VARINT) + varint(int(value))
        case "double":
            return varint(about.number << 3 | FIXED64) + struct.pack("<d", value)
        case _:
            return record(about.number, _content(about.type, value))


def _content(type_: str, value: Any) -> bytes:
    match type_:
        case "string":
            if not isinstance(value, str):
                raise ValueError(f"not a string: {value!r}")
            return value.encode()
        case "bytes":
            return base64.b64decode(value)
        case _:
            return _codec(type_).write(value)


# Messages whose JSON form is not an object


@cache
def _plain(name: str) -> _Message:
    return _Message(name, facts.table("protobuf.tsv.gz")[name])


def _wrapper(name: str, of: Callable[[dict[str, Any]], Any], to: Callable[[Any], dict[str, Any]]) -> _Codec:
    """A message whose JSON form is computed from its fields."""
    return _Codec(
        lambda buffer, at, end: of(_plain(name).read(buffer, at, end)),
        lambda value: _plain(name).write(to(value)),
    )


def _time_of(parts: dict[str, Any], *, micro: bool) -> str | None:
    if not parts:
        return None
    try:
        whole = _EPOCH + timedelta(seconds=parts.get("seconds", 0))
    except OverflowError:
        raise MalformedMessage(f"a time out of range: {parts}") from None
    text = whole.replace(tzinfo=None).isoformat(timespec="seconds")
    return f"{text}.{parts.get('nanos', 0) // 1000:06d}Z" if micro else f"{text}Z"


def _time_to(text: str | None, *, micro: bool) -> dict[str, Any]:
    if text is None:
        return {}
    point = moment(text)
    if point is None:
        raise ValueError(f"not a time: {text!r}")
    seconds = (point.replace(microsecond=0) - _EPOCH) // timedelta(seconds=1)
    return {"seconds": seconds, "nanos": point.microsecond * 1000 if micro else 0}


def _raw_json_reader(buffer: bytes, at: int, end: int) -> Any:
    content = b""
    while at < end:
        tag, at = read_varint(buffer, at)
        if tag != 1 << 3 | BYTES:
            at = skip(buffer, at, end, tag)
            continue
        length, at = read_varint(buffer, at)
        content = buffer[at : at + length]
        at += length
    if not content:
        return None
    if content.startswith(MAGIC):
        return read_unknown(content)
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        raise MalformedMessage("raw bytes that are not JSON") from None


def read_unknown(content: bytes) -> dict[str, Any]:
    """The object in an envelope (with its magic). Raises MalformedMessage, KeyError."""
    if not content.startswith(MAGIC):
        raise MalformedMessage(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    fields = _read_whole(_UNKNOWN.read, content, len(MAGIC))
    api_version, kind = fields.get("apiVersion", ""), fields.get("kind", "")
    raw = base64.b64decode(fields.get("raw", ""))
    if fields.get("contentType") == "application/json":
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise MalformedMessage("an envelope of JSON that is not JSON") from None
    else:
        value = read_message(message_for(api_version, kind), raw)
    return {"apiVersion": api_version, "kind": kind, **value}


def write_unknown(obj: dict[str, Any]) -> bytes:
    """The envelope of an object, with its magic."""
    api_version = obj.get("apiVersion", "v1")  # the oldest discovery documents have none
    name = message_for(api_version, obj["kind"])
    type_meta = record(1, api_version.encode()) + record(2, obj["kind"].encode())
    return (
        MAGIC + record(1, type_meta) + record(2, write_message(name, obj)) + record(3, b"") + record(4, b"")
    )


def message_for(api_version: str, kind: str) -> str:
    """The message of a kind; those of meta (options, Status) may say any version. KeyError if none."""
    kinds: dict[str, str] = facts.document("protobuf_kinds.json")
    name = kinds.get(f"{api_version}/{kind}") or kinds.get(f"meta.k8s.io/v1/{kind}")
    if name is None:
        raise KeyError(f'no kind "{kind}" is registered for version "{api_version}"')
    return name


_UNKNOWN = _Message(
    "k8s.io.apimachinery.pkg.runtime.Unknown",
    {
        "1": ["typeMeta", "", "k8s.io.apimachinery.pkg.runtime.TypeMeta", "optional"],
        "2": ["raw", "raw", "bytes", "optional"],
        "3": ["contentEncoding", "contentEncoding", "string", "optional"],
        "4": ["contentType", "contentType", "string", "optional"],
    },
)


def _int_or_string_of(parts: dict[str, Any]) -> Any:
    return parts.get("strVal", "") if parts.get("type") == 1 else parts.get("intVal", 0)


def _int_or_string_to(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"type": 1, "intVal": 0, "strVal": value}
    return {"type": 0, "intVal": value, "strVal": ""}


def _schema_or_list_to(value: Any) -> dict[str, Any]:
    return {"jSONSchemas": value} if isinstance(value, list) else {"schema": value}


def _schema_or_bool_to(value: Any) -> dict[str, Any]:
    return {"allows": value} if isinstance(value, bool) else {"allows": True, "schema": value}


def _schema_or_strings_to(value: Any) -> dict[str, Any]:
    return {"property": value} if isinstance(value, list) else {"schema": value}


def _special() -> dict[str, _Codec]:
    made: dict[str, _Codec] = {}

    def add(name: str, of: Callable[[dict[str, Any]], Any], to: Callable[[Any], dict[str, Any]]) -> None:
        made[name] = _wrapper(name, of, to)

    for group in ("authentication", "authorization", "certificates"):
        for version in ("v1", "v1beta1"):
            name = f"k8s.io.api.{group}.{version}.ExtraValue"
            add(name, lambda parts: parts.get("items", []), lambda value: {"items": value})
    add(_META + "Verbs", lambda parts: parts.get("items", []), lambda value: {"items": value})
    for name in ("Quantity", "QuantityValue"):
        add(
            "k8s.io.apimachinery.pkg.api.resource." + name,
            lambda parts: parts.get("string", "") or "0",
            lambda value: {"string": value},
        )
    add(
        _META + "Duration",
        lambda parts: format_duration(parts.get("duration", 0)),
        lambda value: {"duration": parse_duration(value)},
    )
    add(_META + "Time", lambda p: _time_of(p, micro=False), lambda v: _time_to(v, micro=False))
    add(_META + "MicroTime", lambda p: _time_of(p, micro=True), lambda v: _time_to(v, micro=True))
    add("k8s.io.apimachinery.pkg.util.intstr.IntOrString", _int_or_string_of, _int_or_string_to)
    raw = _Codec(_raw_json_reader, lambda value: record(1, orjson.dumps(value)))
    made["k8s.io.apimachinery.pkg.runtime.RawExtension"] = raw
    made[_META + "FieldsV1"] = raw
    for version in ("v1", "v1beta1"):
        prefix = _EXTENSIONS + version + "."
        made[prefix + "JSON"] = raw
        add(
            prefix + "JSONSchemaPropsOrArray",
            lambda p: p.get("jSONSchemas") or p.get("schema"),
            _schema_or_list_to,
        )
        add(
            prefix + "JSONSchemaPropsOrBool",
            lambda p: p["schema"] if "schema" in p else p.get("allows", False),
            _schema_or_bool_to,
        )
        add(
            prefix + "JSONSchemaPropsOrStringArray",
            lambda p: p.get("property") or p.get("schema"),
            _schema_or_strings_to,
        )
    return made


_SPECIAL = _special()
