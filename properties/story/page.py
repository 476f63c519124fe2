"""A story as one page that works offline: the diagram, the details and the text, with nothing to load."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import orjson
import yaml

from .lanes import nodes_of
from .step import KINDS, Step
from .text import render_text

_TEMPLATE = (files(__package__) / "page.html").read_text(encoding="utf-8")


def render_page(steps: Sequence[Step], title: str) -> str:
    """The page as HTML text; `title` is the manifest's name."""
    begin = steps[0].seconds if steps else 0.0
    actors = [actor for step in _all(steps) for actor in (step.source, *step.targets)]
    texts: dict[str, int] = {}
    """Each content once, and its number: what is stored, answered and watched is often the same."""
    data = {
        "title": title,
        "kinds": KINDS,
        "nodes": sorted(nodes_of(actors)),
        "steps": [_step(step, begin, texts) for step in steps],
        "texts": list(texts),
    }
    # `<` ends no script element when it is written so.
    text = orjson.dumps(data).decode().replace("<", "\\u003c")
    page = _TEMPLATE.replace("{{title}}", escape(title))
    page = page.replace("{{text}}", escape(render_text(steps)))
    return page.replace("{{data}}", text)


def _all(steps: Sequence[Step]) -> list[Step]:
    found: list[Step] = []
    for step in steps:
        found += [step, *_all(step.children)]
    return found


def _step(step: Step, begin: float, texts: dict[str, int]) -> dict[str, Any]:
    return {
        "ms": round((step.seconds - begin) * 1000.0, 3),
        "kind": step.kind,
        "source": step.source,
        "targets": list(step.targets),
        "text": step.text,
        "objects": [str(name) for name in step.objects],
        "outcome": step.outcome,
        "took": None if step.outcome_ms is None else round(step.outcome_ms, 3),
        "failed": step.failed,
        "content": [[title, texts.setdefault(_text(value), len(texts))] for title, value in step.content],
        "children": [_step(child, begin, texts) for child in step.children],
    }


def _text(value: Any) -> str:
    """YAML as people read it, without anchors."""
    if isinstance(value, str):
        return value
    if value in ({}, [], None):
        return "none"
    text: str = yaml.dump(_readable(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text.rstrip()


def _readable(value: Any) -> Any:
    """Without managedFields, which kubectl does not show either: they say that they are left out."""
    if isinstance(value, dict):
        return {
            key: f"({len(item)} not shown)"
            if key == "managedFields" and isinstance(item, list)
            else _readable(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return value


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
