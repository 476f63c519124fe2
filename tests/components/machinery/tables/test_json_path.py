"""The paths of printer columns."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery.tables.json_path import JsonPathError, parse

DOCUMENT: dict[str, Any] = {
    "spec": {
        "a": 1,
        "none": None,
        "dots.and/slashes": "x",
        "list": [{"n": 1, "t": "one"}, {"n": 2, "t": "two"}, {"t": "three"}],
        "map": {"b": 2, "a": 1},
        "words": ["v", "w", "x", "y"],
    }
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.a", [1]),
        ("$.spec.a", [1]),
        (".spec['a']", [1]),
        ('.spec["a"]', [1]),
        (".spec.none", [None]),
        (".spec.none.deeper", []),
        (".spec.missing", []),
        (".spec.a.deeper", []),
        (r".spec.dots\.and/slashes", ["x"]),
        (".spec['dots.and/slashes']", ["x"]),
        (".spec.list[0].t", ["one"]),
        (".spec.list[-1].t", ["three"]),
        (".spec.list[3].t", []),
        (".spec.list[*].n", [1, 2]),
        (".spec.list.*.n", [1, 2]),
        (".spec.map.*", [1, 2]),
        (".spec.words[1:3]", ["w", "x"]),
        (".spec.words[:2]", ["v", "w"]),
        (".spec.words[::2]", ["v", "x"]),
        (".spec.words[-2:]", ["x", "y"]),
        (".spec.words[0,2]", ["v", "x"]),
        (".spec['a','none']", [1, None]),
        (".spec.map[0]", []),
        ("..n", [1, 2]),
        ('.spec.list[?(@.t=="two")].n', [2]),
        (".spec.list[?(@.t == 'two')].n", [2]),
        (".spec.list[?(@.t!='two')].t", ["one", "three"]),
        (".spec.list[?(@.n>=2)].t", ["two"]),
        (".spec.list[?(@.n<1.5)].t", ["one"]),
        (".spec.list[?(@.n)].t", ["one", "two"]),
        (".spec.list[?(@.t==1)].t", []),
        (".spec.words[?(@=='w')]", ["w"]),
        (".spec.a[?(@.t)]", []),
    ],
)
def test_what_a_path_finds(path: str, found: list[Any]) -> None:
    assert parse(path).find(DOCUMENT) == found


@pytest.mark.parametrize(
    "path",
    [
        "",
        "spec",
        ".spec[",
        ".spec[a]",
        ".spec[]",
        ".spec.",
        ".spec['a",
        ".a b",
        ".a[?(@.b==)]",
        ".a[?(@.b]",
        ".a[-]",
    ],
)
def test_what_is_no_path_is_refused_with_the_place(path: str) -> None:
    with pytest.raises(JsonPathError, match=r"expected .* at offset"):
        parse(path)


@given(st.lists(st.text(min_size=1), max_size=5), st.integers())
def test_quoted_fields_reach_any_key(keys: list[str], leaf: int) -> None:
    document: Any = leaf
    for key in reversed(keys):
        document = {key: document}
    quoted = ["['" + key.replace("\\", "\\\\").replace("'", "\\'") + "']" for key in keys]
    assert parse("$" + "".join(quoted)).find(document) == [leaf]


@given(st.text(alphabet=".[]*?@()'\"=<>!,:$ab01 \\", max_size=20))
def test_any_text_is_a_path_or_an_error(text: str) -> None:
    try:
        path = parse(text)
    except JsonPathError:
        return
    path.find(DOCUMENT)
