"""Label and field selectors: their two grammars, and whether an object is selected.

Label selectors come as text (`app in (a,b),!legacy,tier>1`) or as the `LabelSelector` object of a spec
(`matchLabels`, `matchExpressions`). Field selectors are text of `=`, `==` and `!=` terms only. Semantics
are those of the API concepts page "Labels and Selectors": `!=` and `notin` also select what lacks the key.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal

from attrs import field, frozen

from understudy.components.machinery import names
from understudy.components.machinery.errors import ApiError, bad_request

Operator = Literal["in", "notin", "=", "==", "!=", "exists", "!", "gt", "lt"]

_TEXT_OPERATORS: Final[Mapping[str, Operator]] = {
    "in": "in",
    "notin": "notin",
    "=": "=",
    "==": "==",
    "!=": "!=",
    ">": "gt",
    "<": "lt",
}
_OBJECT_OPERATORS: Final[Mapping[str, Operator]] = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!",
}
_SYMBOLS: Final = "=!(),><"
_SPACE: Final = " \t\r\n"
_END: Final = ""


class SelectorError(ValueError):
    """A selector that cannot be understood; `as_api_error` is what the server answers."""

    def as_api_error(self) -> ApiError:
        """400 BadRequest with the same words."""
        return bad_request(str(self))


@frozen
class Requirement:
    """One term of a label selector."""

    key: str
    operator: Operator
    values: frozenset[str] = field(factory=frozenset)
    """At least one for in and notin, one for the comparisons, none for exists and !."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Does a set of labels fulfil this term?"""
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "gt" | "lt":
                number = None if value is None else _integer(value)
                bound = _integer(next(iter(self.values)))
                if number is None or bound is None:
                    return False
                return number > bound if self.operator == "gt" else number < bound

    def __str__(self) -> str:
        listed = ",".join(sorted(self.values))
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({listed})"
            case "gt" | "lt":
                return f"{self.key}{'>' if self.operator == 'gt' else '<'}{listed}"
            case _:
                return f"{self.key}{self.operator}{listed}"


@frozen
class LabelSelector:
    """All requirements must hold; no requirement selects everything."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False
    """Selects no object at all: an absent selector in a spec, where an empty one would select all."""

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Is an object with these labels selected? None is no labels."""
        if self.nothing:
            return False
        found = labels or {}
        return all(requirement.matches(found) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Selects everything."""
        return not self.nothing and not self.requirements

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING: Final = LabelSelector()
NOTHING: Final = LabelSelector(nothing=True)


@lru_cache(maxsize=1024)
def parse_label_selector(text: str) -> LabelSelector:
    """The selector that a `labelSelector` parameter states; empty text selects all. Raises SelectorError."""
    requirements = _Parser(_tokens(text)).requirements()
    return LabelSelector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def label_selector_from_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """The selector of a `LabelSelector` object. None selects nothing, an empty one everything.

    Raises SelectorError for operators and values that validation would have refused.
    """
    if selector is None:
        return NOTHING
    requirements = [
        Requirement(key, "=", frozenset([value]))
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for expression in selector.get("matchExpressions") or ():
        operator = _OBJECT_OPERATORS.get(expression.get("operator", ""))
        if operator is None:
            raise SelectorError(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        requirements.append(_requirement(expression.get("key", ""), operator, expression.get("values") or ()))
    return LabelSelector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def label_selector_from_map(labels: Mapping[str, str] | None) -> LabelSelector:
    """The selector of a plain map (a Service's or a ReplicationController's `spec.selector`)."""
    return LabelSelector(
        tuple(Requirement(key, "=", frozenset([value])) for key, value in sorted((labels or {}).items()))
    )


def _requirement(key: str, operator: Operator, values: Iterable[str]) -> Requirement:
    listed = list(values)
    if problems := names.qualified_name(key):
        raise SelectorError(f'key: Invalid value: "{key}": {"; ".join(problems)}')
    match operator:
        case "in" | "notin" if not listed:
            raise SelectorError(
                "values: Invalid value: for 'in', 'notin' operators, values set can't be empty"
            )
        case "=" | "==" | "!=" | "gt" | "lt" if len(listed) != 1:
            raise SelectorError(f"values: Invalid value: operator {operator} takes exactly one value")
        case "exists" | "!" if listed:
            raise SelectorError(
                "values: Invalid value: values set must be empty for exists and does not exist"
            )
    if operator in ("gt", "lt") and _integer(listed[0]) is None:
        raise SelectorError(
            f'values[0]: Invalid value: "{listed[0]}": '
            "for 'Gt', 'Lt' operators, the value must be an integer"
        )
    for index, value in enumerate(listed):
        if problems := names.label_value(value):
            raise SelectorError(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(problems)}')
    return Requirement(key, operator, frozenset(listed))


def _integer(text: str) -> int | None:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit():
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _tokens(text: str) -> list[str]:
    """Symbols and words, then the end; the longest known symbol wins (`!=` before `!`)."""
    tokens, position = [], 0
    while position < len(text):
        if text[position] in _SPACE:
            position += 1
        elif text[position] in _SYMBOLS:
            symbol = text[position : position + 2]
            if symbol not in ("==", "!="):
                symbol = text[position]
            tokens.append(symbol)
            position += len(symbol)
        else:
            start = position
            while position < len(text) and text[position] not in _SYMBOLS + _SPACE:
                position += 1
            tokens.append(text[start:position])
    tokens.append(_END)
    return tokens


def _is_word(token: str) -> bool:
    return token != _END and token[0] not in _SYMBOLS


class _Parser:
    """Recursive descent over the tokens; `in` and `notin` are operators only after a key."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while (token := self._ahead()) != _END:
            if not _is_word(token) and token != "!":
                raise SelectorError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._one())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            after = self._take()
            if after == _END:
                return found
            if after != ",":
                raise SelectorError(f"found '{after}', expected: ',' or 'end of string'")
            if not _is_word(following := self._ahead()) and following != "!":
                raise SelectorError(f"found '{following}', expected: identifier after ','")
        return found

    def _one(self) -> Requirement:
        absent = self._ahead() == "!"
        if absent:
            self._take()
        key = self._take()
        if not _is_word(key):
            raise SelectorError(f"found '{key}', expected: identifier")
        if absent:
            return _requirement(key, "!", ())
        if self._ahead() in (_END, ","):
            return _requirement(key, "exists", ())
        written = self._take()
        operator = _TEXT_OPERATORS.get(written)
        if operator is None:
            raise SelectorError(f"found '{written}', expected: in, notin, =, ==, !=, gt, lt")
        return _requirement(key, operator, self._set() if operator in ("in", "notin") else [self._value()])

    def _value(self) -> str:
        if self._ahead() in (_END, ","):
            return ""
        token = self._take()
        if not _is_word(token):
            raise SelectorError(f"found '{token}', expected: identifier")
        return token

    def _set(self) -> list[str]:
        if (token := self._take()) != "(":
            raise SelectorError(f"found '{token}' expected: '('")
        values: list[str] = []
        while True:
            if _is_word(token := self._ahead()):
                values.append(self._take())
            elif token in (",", ")"):
                values.append("")
            else:
                raise SelectorError(f"found '{token}', expected: ',', ')' or identifier")
            separator = self._take()
            if separator == ")":
                return sorted(set(values))
            if separator != ",":
                raise SelectorError(f"found '{separator}', expected: ',' or ')'")

    def _ahead(self) -> str:
        return self._tokens[self._position]

    def _take(self) -> str:
        token = self._tokens[self._position]
        if token != _END:
            self._position += 1
        return token


@frozen
class FieldTerm:
    """One `field=value` or `field!=value`."""

    field: str
    value: str
    negated: bool = False


@frozen
class FieldSelector:
    """All terms must hold; no term selects everything."""

    terms: tuple[FieldTerm, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Is an object with these selectable fields selected? A field that is not there is empty."""
        return all((fields.get(term.field, "") == term.value) != term.negated for term in self.terms)

    @property
    def empty(self) -> bool:
        """Selects everything."""
        return not self.terms

    def required_value(self, name: str) -> str | None:
        """The one value that `name` must have (`metadata.name=x` makes a list a get), or None."""
        for term in self.terms:
            if term.field == name and not term.negated:
                return term.value
        return None


@lru_cache(maxsize=1024)
def parse_field_selector(text: str) -> FieldSelector:
    """The selector that a `fieldSelector` parameter states; empty text selects all. Raises SelectorError.

    Whether the fields are known to the resource is the question of `fields.check_field_selector`.
    """
    return FieldSelector(tuple(_field_term(text, part) for part in sorted(_split_terms(text)) if part))


def _split_terms(text: str) -> list[str]:
    """The parts between commas that no backslash escapes."""
    parts, start, escaped = [], 0, False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ",":
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return parts


def _field_term(selector: str, part: str) -> FieldTerm:
    for position in range(len(part)):
        for operator in ("!=", "==", "="):
            if part.startswith(operator, position):
                value = _unescape(part[position + len(operator) :])
                return FieldTerm(part[:position], value, operator == "!=")
    raise SelectorError(f"invalid selector: '{selector}'; can't understand '{part}'")


def _unescape(text: str) -> str:
    written, escaped = [], False
    for character in text:
        if escaped:
            if character not in "\\,=":
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{character}")
            written.append(character)
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in ",=":
            raise SelectorError(f"invalid field selector: unescaped character in value: {ord(character)}")
        else:
            written.append(character)
    if escaped:
        raise SelectorError("invalid field selector: invalid escape sequence: \\")
    return "".join(written)
