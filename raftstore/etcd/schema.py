"""The messages and methods of the etcd v3 API, made from our own `.proto` files when this module is imported.

Message classes come from descriptors, so nothing is generated and nothing has to be kept in step:
`messages.PutRequest(key=b"k")` is protobuf's own class, and `METHODS["/etcdserverpb.KV/Put"]` says what a
call takes and answers. The reader knows the part of proto3 that the files use: messages, enums, `oneof`,
`repeated`, services.
"""

import re
from collections.abc import Iterator
from importlib import resources
from typing import Any, Final

from attrs import define, field, frozen
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FILES: Final = ("kv.proto", "auth.proto", "rpc.proto", "health.proto")
"""In the order in which they import one another."""

_TOKEN = re.compile(r'//[^\n]*|"[^"]*"|[\w.]+|[{}();=]|(\S)')
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


@frozen
class Method:
    """One method of a service."""

    path: str
    """As HTTP/2 names it: `/etcdserverpb.KV/Put`."""
    request: Any
    """Class of the message that the client sends, once or many times."""
    response: Any
    client_streaming: bool
    server_streaming: bool

    @property
    def name(self) -> str:
        """Without the service: `Put`."""
        return self.path.rpartition("/")[2]


class Messages:
    """Every message class, by its name in its package, as an attribute."""

    def __init__(self, classes: dict[str, Any]) -> None:
        self.__dict__.update(classes)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no message {name}")


class SchemaError(Exception):
    """A `.proto` file that the reader does not understand."""


@define
class _Reader:
    """Reads one file into its descriptor."""

    tokens: Iterator[str]
    known: dict[str, bool]
    """Full name of every message (False) and enum (True) of this and earlier files."""
    file: Any = field(factory=descriptor_pb2.FileDescriptorProto)

    def next(self, expected: str = "") -> str:
        token = next(self.tokens, "")
        if expected and token != expected:
            raise SchemaError(f"{self.file.name}: {expected!r} expected, not {token!r}")
        return token

    def read(self) -> Any:
        while token := self.next():
            match token:
                case "syntax":
                    self.next("=")
                    self.file.syntax = self._string()
                case "package":
                    self.file.package = self.next()
                    self.next(";")
                case "import":
                    self.file.dependency.append(self._string())
                case "enum":
                    self._enum(self.file.enum_type.add(), self.file.package)
                case "message":
                    self._message(self.file.message_type.add(), self.file.package)
                case "service":
                    self._service(self.file.service.add())
                case _:
                    raise SchemaError(f"{self.file.name}: {token!r} at the top of a file")
        for message in self.file.message_type:
            self._resolve(message, f"{self.file.package}.{message.name}")
        for service in self.file.service:
            for method in service.method:
                method.input_type = self._full(method.input_type, self.file.package)
                method.output_type = self._full(method.output_type, self.file.package)
        return self.file

    def _string(self) -> str:
        text = self.next().strip('"')
        self.next(";")
        return text

    def _enum(self, enum: Any, scope: str) -> None:
        enum.name = self.next()
        self.known[f"{scope}.{enum.name}"] = True
        self.next("{")
        while (name := self.next()) != "}":
            self.next("=")
            enum.value.add(name=name, number=int(self.next()))
            self.next(";")

    def _message(self, message: Any, scope: str) -> None:
        message.name = self.next()
        full = f"{scope}.{message.name}"
        self.known[full] = False
        self.next("{")
        while (token := self.next()) != "}":
            match token:
                case "enum":
                    self._enum(message.enum_type.add(), full)
                case "oneof":
                    index = len(message.oneof_decl)
                    message.oneof_decl.add(name=self.next())
                    self.next("{")
                    while (kind := self.next()) != "}":
                        self._field(message, kind).oneof_index = index
                case "repeated":
                    self._field(message, self.next()).label = _Field.LABEL_REPEATED
                case _:
                    self._field(message, token)

    def _field(self, message: Any, kind: str) -> Any:
        added = message.field.add(name=self.next(), label=_Field.LABEL_OPTIONAL)
        self.next("=")
        added.number = int(self.next())
        self.next(";")
        if kind in _SCALARS:
            added.type = _SCALARS[kind]
        else:
            added.type_name = kind
        return added

    def _service(self, service: Any) -> None:
        service.name = self.next()
        self.next("{")
        while self.next() != "}":
            method = service.method.add(name=self.next())
            method.input_type, method.client_streaming = self._argument()
            self.next("returns")
            method.output_type, method.server_streaming = self._argument()
            self.next(";")

    def _argument(self) -> tuple[str, bool]:
        self.next("(")
        kind = self.next()
        streaming = kind == "stream"
        if streaming:
            kind = self.next()
        self.next(")")
        return kind, streaming

    def _resolve(self, message: Any, scope: str) -> None:
        for each in message.field:
            if each.type_name:
                each.type_name = self._full(each.type_name, scope)
                is_enum = self.known[each.type_name[1:]]
                each.type = _Field.TYPE_ENUM if is_enum else _Field.TYPE_MESSAGE

    def _full(self, name: str, scope: str) -> str:
        """A name as seen from a scope, from the inside out; full names begin with a dot."""
        while scope:
            if f"{scope}.{name}" in self.known:
                return f".{scope}.{name}"
            scope = scope.rpartition(".")[0]
        if name in self.known:
            return f".{name}"
        raise SchemaError(f"{self.file.name}: no message or enum {name!r}")


def _tokens(name: str, text: str) -> Iterator[str]:
    for found in _TOKEN.finditer(text):
        if found[1]:
            raise SchemaError(f"{name}: {found[1]!r} is not understood")
        if not found[0].startswith("//"):
            yield found[0]


def read_files(sources: dict[str, str]) -> list[Any]:
    """Descriptors of `.proto` texts by name, each after those that it imports. Raises SchemaError."""
    known: dict[str, bool] = {}
    found = []
    for name, text in sources.items():
        reader = _Reader(_tokens(name, text), known)
        reader.file.name = name
        found.append(reader.read())
    return found


def _load() -> tuple[Messages, dict[str, Method]]:
    folder = resources.files(__package__) / "proto"
    sources = {name: (folder / name).read_text("utf-8") for name in FILES}
    pool = descriptor_pool.DescriptorPool()
    classes: dict[str, Any] = {}
    methods: dict[str, Method] = {}
    for file in read_files(sources):
        pool.AddSerializedFile(file.SerializeToString())
        for message in file.message_type:
            described = pool.FindMessageTypeByName(f"{file.package}.{message.name}")
            classes[message.name] = message_factory.GetMessageClass(described)
        for service in file.service:
            for method in service.method:
                path = f"/{file.package}.{service.name}/{method.name}"
                methods[path] = Method(
                    path,
                    classes[method.input_type.rpartition(".")[2]],
                    classes[method.output_type.rpartition(".")[2]],
                    method.client_streaming,
                    method.server_streaming,
                )
    return Messages(classes), methods


messages, METHODS = _load()
"""Message classes by name, and every method by its path."""
