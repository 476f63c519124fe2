r"""JSONPath as custom resource definitions use it, for printer columns and selectable fields.

The dialect is that of kubectl's templates, without braces and text around the path: fields (`.spec.a`,
`['a']`, dots escaped by a backslash), indexes and slices (`[0]`, `[-1]`, `[1:3]`, `[::2]`), unions
(`['a','b']`, `[0,2]`), `*`, `..`, and filters of one comparison or an existence
(`[?(@.type=="Ready")]`). A missing key finds nothing; a step that cannot apply to the value, such as
an index into a string, makes the whole path find nothing.
"""

import operator
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from attrs import field, frozen


class JsonPathError(ValueError):
    """The text is no path that this dialect knows."""


class _Inapplicable(Exception):
    """A step met a value of the wrong shape."""


@frozen
class _Field:
    name: str


@frozen
class _Wildcard:
    pass


@frozen
class _Descendants:
    pass


@frozen
class _Slice:
    start: int | None
    end: int | None
    step: int
    single: bool
    """An index: it must lie inside the array, and a slice need not."""


@frozen
class _Union:
    members: tuple["_Step", ...]


@frozen
class _Filter:
    left: "JsonPath | _Literal"
    compare: Callable[[Any, Any], bool] | None
    """None: the left side must merely exist."""
    right: "JsonPath | _Literal | None"


@frozen
class _Literal:
    value: Any


_Step = _Field | _Wildcard | _Descendants | _Slice | _Union | _Filter

_COMPARISONS: tuple[tuple[str, Callable[[Any, Any], bool]], ...] = (
    ("==", operator.eq),
    ("!=", operator.ne),
    ("<=", operator.le),
    (">=", operator.ge),
    ("<", operator.lt),
    (">", operator.gt),
)
_FIELD_ENDS = " .,[]$@{}()=!<>'\""


@frozen
class JsonPath:
    """A parsed path; see :func:`parse`."""

    text: str
    steps: tuple[_Step, ...]
    _fields: tuple[str, ...] | None = field(init=False, eq=False, repr=False)
    """The names of the fields if there are no other steps: most paths, and a plain loop finds those."""

    @_fields.default
    def _plain_fields(self) -> tuple[str, ...] | None:
        names = tuple(step.name for step in self.steps if isinstance(step, _Field))
        return names if len(names) == len(self.steps) else None

    def find(self, document: Any) -> list[Any]:
        """Every value at the path, in order; values of a map are visited in the order of its keys."""
        if self._fields is not None:
            for name in self._fields:
                if not isinstance(document, dict) or name not in document:
                    return []
                document = document[name]
            return [document]
        try:
            return list(_walk(self.steps, document))
        except _Inapplicable:
            return []


@lru_cache(maxsize=4096)
def parse(text: str) -> JsonPath:
    """The path written as `text`; raises JsonPathError, saying what was expected where."""
    parser = _Parser(text)
    path = parser.path()
    if parser.position != len(text):
        raise parser.error("a field, an index or the end")
    return path


def _walk(steps: tuple[_Step, ...], value: Any) -> Iterator[Any]:
    if not steps:
        yield value
        return
    for found in _apply(steps[0], value):
        yield from _walk(steps[1:], found)


def _apply(step: _Step, value: Any) -> Iterator[Any]:
    if value is None:
        return
    match step:
        case _Field(name):
            if isinstance(value, dict) and name in value:
                yield value[name]
        case _Wildcard():
            yield from _children(value)
        case _Descendants():
            yield value
            for child in _children(value):
                yield from _apply(step, child)
        case _Union(members):
            for member in members:
                yield from _apply(member, value)
        case _Slice():
            yield from _cut(step, value)
        case _Filter():
            if not isinstance(value, list):
                raise _Inapplicable
            yield from (item for item in value if _passes(step, item))


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (value[key] for key in sorted(value))
    elif isinstance(value, list):
        yield from value


def _cut(step: _Slice, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Inapplicable
    if step.single:
        assert step.start is not None, f"an index without a number: {step}"
        if not -len(value) <= step.start < len(value):
            raise _Inapplicable
        return [value[step.start]]
    return value[step.start : step.end : step.step]


def _passes(step: _Filter, item: Any) -> bool:
    lefts = _operand(step.left, item)
    if step.compare is None:
        return bool(lefts)
    assert step.right is not None, f"a comparison with nothing: {step}"
    rights = _operand(step.right, item)
    if not lefts or not rights:
        return False
    if len(lefts) > 1 or len(rights) > 1 or _family(lefts[0]) != _family(rights[0]):
        raise _Inapplicable
    try:
        return step.compare(lefts[0], rights[0])
    except TypeError:
        raise _Inapplicable from None


def _operand(side: "JsonPath | _Literal", item: Any) -> list[Any]:
    return [side.value] if isinstance(side, _Literal) else list(_walk(side.steps, item))


def _family(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def error(self, expected: str) -> JsonPathError:
        return JsonPathError(f"JSONPath {self.text!r}: expected {expected} at offset {self.position}")

    def _at(self, token: str) -> bool:
        return self.text.startswith(token, self.position)

    def _take(self, token: str) -> bool:
        if self._at(token):
            self.position += len(token)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self.error(repr(token))

    def _spaces(self) -> None:
        while self._take(" "):
            pass

    def path(self) -> JsonPath:
        """Steps up to whatever cannot continue a path."""
        start = self.position
        if not (self._take("$") or self._take("@")) and not (self._at(".") or self._at("[")):
            raise self.error("'.'")
        steps: list[_Step] = []
        while True:
            if self._take(".."):
                steps.append(_Descendants())
                if not self._at("["):
                    steps.append(self._name())
            elif self._take("."):
                if not self._at("["):
                    steps.append(self._name())
            elif self._take("["):
                steps.append(self._brackets())
            else:
                return JsonPath(self.text[start : self.position], tuple(steps))

    def _name(self) -> _Step:
        characters: list[str] = []
        while self.position < len(self.text) and self.text[self.position] not in _FIELD_ENDS:
            self._take("\\")
            characters.append(self.text[self.position : self.position + 1])
            self.position += 1
        name = "".join(characters)
        if not name:
            raise self.error("the name of a field")
        return _Wildcard() if name == "*" else _Field(name)

    def _brackets(self) -> _Step:
        self._spaces()
        if self._take("?("):
            step = self._filter()
            self._expect(")")
            self._expect("]")
            return step
        members = [self._member()]
        self._spaces()
        while self._take(","):
            self._spaces()
            members.append(self._member())
            self._spaces()
        self._expect("]")
        return members[0] if len(members) == 1 else _Union(tuple(members))

    def _member(self) -> _Step:
        if self._take("*"):
            return _Wildcard()
        if self._at("'") or self._at('"'):
            return _Field(self._quoted())
        numbers = [self._integer()]
        while self._take(":") and len(numbers) < 3:
            numbers.append(self._integer())
        if len(numbers) == 1:
            if numbers[0] is None:
                raise self.error("an index, a quoted field or '*'")
            return _Slice(numbers[0], None, 1, single=True)
        step = numbers[2] if len(numbers) == 3 and numbers[2] is not None else 1
        if step < 1:
            raise self.error("a step of 1 or more")
        return _Slice(numbers[0], numbers[1], step, single=False)

    def _integer(self) -> int | None:
        start = self.position
        self._take("-")
        while self.position < len(self.text) and self.text[self.position] in "0123456789":
            self.position += 1
        digits = self.text[start : self.position]
        if digits == "-":
            raise self.error("a number")
        return int(digits) if digits else None

    def _quoted(self) -> str:
        quote = self.text[self.position]
        self.position += 1
        characters: list[str] = []
        while not self._take(quote):
            self._take("\\")
            if self.position >= len(self.text):
                raise self.error(f"a closing {quote}")
            characters.append(self.text[self.position])
            self.position += 1
        return "".join(characters)

    def _filter(self) -> _Filter:
        self._spaces()
        left = self._filter_side()
        self._spaces()
        for token, compare in _COMPARISONS:
            if self._take(token):
                self._spaces()
                right = self._filter_side()
                self._spaces()
                return _Filter(left, compare, right)
        return _Filter(left, None, None)

    def _filter_side(self) -> JsonPath | _Literal:
        if self._at("@") or self._at("$") or self._at("."):
            return self.path()
        if self._at("'") or self._at('"'):
            return _Literal(self._quoted())
        start = self.position
        while self.position < len(self.text) and self.text[self.position] not in " )=!<>":
            self.position += 1
        word = self.text[start : self.position]
        if word in ("true", "false"):
            return _Literal(word == "true")
        try:
            return _Literal(float(word) if "." in word or "e" in word.lower() else int(word))
        except ValueError:
            self.position = start
            raise self.error("a path, a quoted text, a number, true or false") from None
