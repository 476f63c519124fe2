"""The codec: what is put in comes back, and nothing but a CodecError ever comes out of wrong bytes."""

import contextlib
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Mapping
from enum import Enum, IntEnum
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import attrs
import msgpack
import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import understudy
from understudy.actors import ChannelWriter, Ref
from understudy.mailbox import CodecError, Refusal, Resolver, decode, encode, message, registered
from understudy.mailbox.codec import DEPTH_MAX, Codec

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@message("test.codec.inner")
@frozen
class Inner:
    number: int = 0
    names: tuple[str, ...] = ()


@message("test.codec.refusal")
@frozen
class Refused(Refusal):
    why: str


@message("test.codec.everything")
@frozen
class Everything(Generic[T]):
    flag: bool
    number: int
    ratio: float
    text: str
    raw: bytes
    colour: Colour
    level: Level
    maybe_colour: Colour | None
    maybe_tuple: tuple[int, ...] | None
    pair: tuple[int, Inner]
    set_of: frozenset[int]
    listed: list[Inner]
    by_colour: Mapping[Colour, tuple[int, ...]]
    either: int | bytes | Inner
    choice: Literal["a", "b", 3]
    inner: Inner
    nested: tuple[tuple[Inner, ...], ...]
    json: Any
    generic: T
    refusal: Refusal | None
    _private: int = 7


@message("test.codec.self")
@frozen
class Chain:
    next: "Chain | None" = None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
INTEGERS = st.integers(-(2**63), 2**64 - 1)


class Names(Resolver):
    """Refs and writers are known by number here."""

    def __init__(self) -> None:
        self.live: dict[str, Any] = {}

    def name(self, value: Any) -> str | None:
        for name, known in self.live.items():
            if known is value:
                return name
        if getattr(type(value), "__understudy_live__", False):
            self.live[str(len(self.live))] = value
            return str(len(self.live) - 1)
        return None

    def resolve(self, name: str) -> Any:
        return self.live[name]


def values_of(t: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a field type: the model is the annotation itself."""
    origin, arguments = get_origin(t), get_args(t)
    if t is Any or t is object or isinstance(t, TypeVar):
        return JSON
    if origin in (Union, UnionType):
        return st.one_of([values_of(a, depth) for a in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    cls = origin or t
    if cls is NoneType or t is None:
        return st.none()
    if cls is tuple:
        if arguments and arguments[-1] is Ellipsis:
            if depth >= 3:
                return st.just(())
            return st.lists(values_of(arguments[0], depth + 1), max_size=2).map(tuple)
        return st.tuples(*(values_of(a, depth + 1) for a in arguments))
    if cls is frozenset:
        return st.frozensets(values_of(arguments[0]), max_size=3)
    if cls is list:
        return st.lists(values_of(arguments[0], depth + 1), max_size=2)
    if cls in (dict, Mapping) or getattr(cls, "__name__", "") == "Mapping":
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1], depth + 1), max_size=2)
    scalar = {bool: st.booleans(), int: INTEGERS, float: st.floats(allow_nan=False), str: st.text()}
    scalar |= {bytes: st.binary(max_size=20)}
    if cls in scalar:
        return scalar[cls]
    if cls is Ref:
        return st.just(Ref("/somebody", None))  # type: ignore[arg-type]
    if cls is ChannelWriter:
        return st.builds(ChannelWriter, st.none())
    if issubclass(cls, Enum):
        return st.sampled_from(list(cls))
    if cls is Refusal:
        return st.builds(Refused, st.text())
    assert attrs.has(cls), f"no values known for {t}"
    attrs.resolve_types(cls)
    fields = {
        a.alias: st.just(a.default) if depth > 3 and a.default is None else values_of(a.type, depth + 1)
        for a in attrs.fields(cls)
        if a.init and (a.default is attrs.NOTHING or depth < 3)
    }
    return st.builds(cls, **fields)


def same(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down (exceptions compare by identity in attrs)."""
    if type(left) is not type(right):
        return False
    if attrs.has(type(left)) and not getattr(type(left), "__understudy_live__", False):
        return all(same(getattr(left, a.name), getattr(right, a.name)) for a in attrs.fields(type(left)))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def every_registered_class() -> list[type]:
    for module in pkgutil.walk_packages(understudy.__path__, "understudy."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return [cls for _, cls in sorted(registered().items()) if cls.__module__.startswith("understudy.")]


@pytest.mark.parametrize("cls", every_registered_class(), ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_registered_message_comes_back_as_it_was(cls: type) -> None:
    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(values_of(cls))
    def comes_back(value: Any) -> None:
        names = Names()
        back = decode(encode(value, names), names)
        assert same(back, value), f"{value!r} became {back!r}"
        codec = Codec(names)
        (name, one), (_, two) = codec.encode_fields(value), codec.encode_fields(value)
        assert same(codec.decode_run(name, 2, one + two), [value, value])

    comes_back()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(values_of(Everything))
def test_every_kind_of_field_comes_back_as_it_was(value: Any) -> None:
    assert same(decode(encode(value)), value)


WHOLE = Everything(
    True,
    1,
    1.5,
    "t",
    b"r",
    Colour.RED,
    Level.LOW,
    Colour.GREEN,
    (1,),
    (1, Inner()),
    frozenset([1]),
    [Inner()],
    {Colour.RED: (1,)},
    b"e",
    3,
    Inner(),
    ((Inner(),),),
    {"a": [1]},
    None,
    Refused("no"),
)


def rewritten(**fields: Any) -> bytes:
    """The bytes of `WHOLE` with some fields overwritten, as a wrong program would send them."""
    code, payload = msgpack.unpackb(encode(WHOLE))
    name, values = msgpack.unpackb(payload, strict_map_key=False)
    packed = msgpack.packb([name, {**values, **fields}])
    return msgpack.packb(msgpack.ExtType(code, packed))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("field", "wrong", "says"),
    [
        ("number", "12", "number: expected int, got str '12'"),
        ("text", 5, "text: expected str, got int 5"),
        ("raw", 5, "raw: expected bytes, got int 5"),
        ("ratio", "x", "ratio: expected float"),
        ("colour", "blue", "colour: expected a Colour, got str 'blue'"),
        ("maybe_colour", "blue", "maybe_colour: expected a Colour"),
        ("maybe_tuple", ["x"], r"maybe_tuple\[0\]: expected int"),
        ("pair", [1], "pair: expected 2 items"),
        ("pair", [1, 2], r"pair\[1\]: expected Inner"),
        ("listed", {"a": 1}, "listed: expected a list"),
        ("by_colour", {"red": ["x"]}, r"by_colour\['red'\]\[0\]: expected int"),
        ("by_colour", {"blue": []}, r"by_colour\['blue'\]: expected a Colour"),
        ("either", "x", "either: expected int | bytes"),
        ("choice", "c", "choice: expected one of 'a', 'b', 3"),
        ("inner", 1, "inner: expected Inner"),
        ("nested", [[1]], r"nested\[0\]\[0\]: expected Inner"),
        ("refusal", "no", "refusal: expected Refusal"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_with_what_was_expected(field: str, wrong: Any, says: str) -> None:
    with pytest.raises(CodecError, match=f"test.codec.everything: {says}"):
        decode(rewritten(**{field: wrong}))


def test_unknown_fields_are_ignored_and_missing_ones_need_a_default() -> None:
    assert decode(rewritten(from_a_newer_version=1)).number == 1
    old = msgpack.packb(msgpack.ExtType(1, msgpack.packb(["test.codec.inner", {}])))
    assert decode(old) == Inner()
    lacking = msgpack.packb(msgpack.ExtType(1, msgpack.packb(["test.codec.refusal", {}])))
    with pytest.raises(CodecError, match="expected Refused with why"):
        decode(lacking)


def test_in_a_run_what_cannot_be_read_harms_nothing_else() -> None:
    name = "test.codec.inner"
    whole = [msgpack.packb({"number": n, "names": []}) for n in range(3)]
    defaults, unknown = msgpack.packb({}), msgpack.packb({"number": 7, "from_a_newer_version": [1]})
    wrong, no_map = msgpack.packb({"number": "12"}), msgpack.packb([1])
    endpoint = msgpack.packb({"number": 1, "names": msgpack.ExtType(2, b"ref")})
    read = Codec().decode_run(
        name, 8, b"".join([whole[0], wrong, defaults, no_map, whole[1], endpoint, unknown, whole[2]])
    )
    assert [m for m in read if not isinstance(m, CodecError)] == [
        Inner(0),
        Inner(),
        Inner(1),
        Inner(7),
        Inner(2),
    ]
    assert [str(read[n]) for n in (1, 3, 5)] == [
        "test.codec.inner: number: expected int, got str '12'",
        "test.codec.inner: value: expected the fields of Inner, got list [1]",
        "a reference 'ref' outside a running actor system",
    ]


def test_a_run_that_breaks_off_is_lost_from_there_and_one_too_long_is_refused() -> None:
    one = msgpack.packb({"number": 1})
    first, *rest = Codec().decode_run("test.codec.inner", 3, one + one[:-1])
    assert first == Inner(1) and [type(error) for error in rest] == [CodecError, CodecError]
    with pytest.raises(CodecError, match="9 bytes behind a run of 1"):
        Codec().decode_run("test.codec.inner", 1, one + one)
    (unknown,) = Codec().decode_run("no.such", 1, one)
    assert "unknown message 'no.such'" in str(unknown)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 9), st.binary(max_size=60))
def test_any_bytes_are_a_run_of_values_and_codec_errors_or_a_codec_error(count: int, data: bytes) -> None:
    with contextlib.suppress(CodecError):
        read = Codec().decode_run("test.codec.inner", count, data)
        assert len(read) == count and all(isinstance(m, Inner | CodecError) for m in read)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_codec_error(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        decode(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_message_with_some_bytes_changed_is_a_value_or_a_codec_error(data: st.DataObject) -> None:
    whole = bytearray(encode(WHOLE))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(CodecError):
        decode(bytes(whole[:cut]))


def test_what_has_no_wire_form_is_named() -> None:
    @frozen
    class Unregistered:
        pass

    for wrong in (Unregistered(), Inner(number=2**70), {"x": object()}, Ref("/a", None)):  # type: ignore[arg-type]
        with pytest.raises(CodecError, match="cannot encode"):
            encode(wrong)
    with pytest.raises(CodecError, match=r'decorate it with @message\("\.\.\."\)'):
        encode(Unregistered())


def test_nesting_has_a_limit_both_ways() -> None:
    def chain(length: int) -> Chain:
        value = Chain()
        for _ in range(length - 1):
            value = Chain(value)
        return value

    assert same(decode(encode(chain(DEPTH_MAX))), chain(DEPTH_MAX))
    with pytest.raises(CodecError, match="inside one another"):
        encode(chain(DEPTH_MAX + 1))
    bomb = msgpack.packb(None)
    for _ in range(2000):
        bomb = msgpack.packb(msgpack.ExtType(1, bomb))
    with pytest.raises(CodecError):
        decode(bomb)
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(CodecError):
        encode(deep)
    with pytest.raises(CodecError):
        decode(b"\x91" * 5000 + b"\xc0")


def test_size_has_a_limit_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("understudy.mailbox.codec.BYTES_MAX", 100)
    with pytest.raises(CodecError, match="limit of 100"):
        encode(b"x" * 101)
    with pytest.raises(CodecError, match="limit of 100"):
        decode(b"x" * 101)


def test_an_unknown_message_is_named() -> None:
    unknown = msgpack.packb(msgpack.ExtType(1, msgpack.packb(["no.such", {}])))
    with pytest.raises(CodecError, match=r"unknown message .no\.such."):
        decode(unknown)
    with pytest.raises(CodecError, match="outside a running actor system"):
        decode(msgpack.packb(msgpack.ExtType(2, b"ref")))


def test_a_set_is_written_in_the_same_order_in_every_process() -> None:
    program = (
        "from understudy.mailbox import encode;"
        "print(encode([{'a', 'b', 'c', 'd'}, frozenset([1, 'x', b'y', None])]).hex())"
    )
    written = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(written) == 1


def test_a_wire_name_belongs_to_one_frozen_class() -> None:
    with pytest.raises(TypeError, match=r"is Inner's already"):

        @message("test.codec.inner")
        @frozen
        class Other:
            pass

    with pytest.raises(TypeError, match="must be a frozen attrs class"):

        @message("test.codec.mutable")
        @attrs.define
        class Mutable:
            pass
