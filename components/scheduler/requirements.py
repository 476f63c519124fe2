"""Label and node selectors compiled once and matched many times.

Requirements are those of `metav1.LabelSelectorRequirement` and `v1.NodeSelectorRequirement`. A missing
key matches `NotIn` and `DoesNotExist`; `Gt` and `Lt` compare base-10 integers and match nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

Labels = Mapping[str, str]


@frozen
class Requirement:
    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        """Whether labels (or a node's fields) meet it."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                return self._compares(value)
        raise AssertionError(f"operator {self.operator!r} passed validation")

    def _compares(self, value: str | None) -> bool:
        if value is None or len(self.values) != 1:
            return False
        try:
            have, bound = int(value), int(next(iter(self.values)))
        except ValueError:
            return False
        return have > bound if self.operator == "Gt" else have < bound


@frozen
class Selector:
    """All requirements together. Without any it matches everything; see :func:`label_selector` for None."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Labels) -> bool:
        if self.nothing:
            return False
        return all(requirement.matches(labels) for requirement in self.requirements)

    def with_labels(self, labels: Labels) -> "Selector":
        """The selector with one equality more for each label."""
        more = tuple(Requirement(k, "In", frozenset((v,))) for k, v in sorted(labels.items()))
        return Selector(self.requirements + more, self.nothing)


NOTHING = Selector(nothing=True)


def label_selector(selector: Mapping[str, Any] | None) -> Selector:
    """Compile a `metav1.LabelSelector`: None selects nothing, an empty one everything."""
    if selector is None:
        return NOTHING
    requirements = [
        Requirement(k, "In", frozenset((v,))) for k, v in sorted((selector.get("matchLabels") or {}).items())
    ]
    requirements += _requirements(selector.get("matchExpressions"))
    return Selector(tuple(requirements))


def _requirements(expressions: Sequence[Mapping[str, Any]] | None) -> list[Requirement]:
    return [Requirement(e["key"], e["operator"], frozenset(e.get("values") or ())) for e in expressions or ()]


@frozen
class NodeSelectorTerm:
    """`matchExpressions` over labels and `matchFields` over `metadata.name`; empty matches no node."""

    expressions: Selector
    fields: Selector

    def matches(self, name: str, labels: Labels) -> bool:
        if not self.expressions.requirements and not self.fields.requirements:
            return False
        return self.expressions.matches(labels) and self.fields.matches({"metadata.name": name})


def node_selector_term(term: Mapping[str, Any]) -> NodeSelectorTerm:
    """Compile a `v1.NodeSelectorTerm`."""
    return NodeSelectorTerm(
        Selector(tuple(_requirements(term.get("matchExpressions")))),
        Selector(tuple(_requirements(term.get("matchFields")))),
    )
