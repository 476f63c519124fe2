"""Field sets behave as sets of paths."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery import field_set
from understudy.components.machinery.field_set import FieldSet

Path = tuple[str, ...]
steps = st.sampled_from(["f:a", "f:b", 'k:{"name":"c"}', 'v:"x"'])
models = st.sets(st.lists(steps, min_size=1, max_size=3).map(tuple), max_size=6)


def tree_of(model: set[Path]) -> FieldSet:
    tree: dict[str, Any] = {}
    for path in model:
        node: dict[str, Any] = {}
        for step in reversed(path):
            node = {step: node}
        tree = field_set.union(tree, node)
    return tree


def model_of(tree: FieldSet, prefix: Path = ()) -> set[Path]:
    found = set()
    for step, node in tree.items():
        if step != field_set.SELF:
            if field_set.has(node):
                found.add((*prefix, step))
            found |= model_of(node, (*prefix, step))
    return found


@given(models)
def test_a_set_is_its_paths(model: set[Path]) -> None:
    assert model_of(tree_of(model)) == model
    assert len(list(field_set.paths(tree_of(model)))) == len(model)


@given(models, models)
def test_operations_are_those_of_sets(left: set[Path], right: set[Path]) -> None:
    a, b = tree_of(left), tree_of(right)
    assert model_of(field_set.union(a, b)) == left | right
    assert model_of(field_set.intersection(a, b)) == left & right
    assert model_of(field_set.difference(a, b)) == left - right
    below = {path for path in left if any(path[: len(prefix)] == prefix for prefix in right)}
    assert model_of(field_set.recursive_difference(a, b)) == left - below
    assert (a, b) == (tree_of(left), tree_of(right))


@given(models, models)
def test_one_set_has_one_form(left: set[Path], right: set[Path]) -> None:
    """So that comparing two trees compares two sets, and an empty set is an empty dict."""
    assert field_set.difference(tree_of(left | right), tree_of(right)) == tree_of(left - right)
    assert field_set.intersection(tree_of(left | right), tree_of(left)) == tree_of(left)


def test_paths_are_written_as_in_conflicts() -> None:
    tree = {"f:spec": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}}, 'v:"x"': {}, "i:3": {}}}
    assert list(field_set.paths(tree)) == [
        ".spec[3]",
        '.spec[port=80,protocol="TCP"]',
        '.spec[port=80,protocol="TCP"].name',
        '.spec[="x"]',
    ]
    assert field_set.of_paths("status", "metadata.labels") == {"f:status": {}, "f:metadata": {"f:labels": {}}}
