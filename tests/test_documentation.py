"""The code on a page of the documentation runs, and prints what the page says."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, int]]:
    """Language, text and line of each fenced block."""
    return [(found[1], found[2], page.count("\n", 0, found.start()) + 2) for found in BLOCK.finditer(page)]


def test_the_tutorial_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    path = DOCS / "actors.md"
    names: dict[str, object] = {"__name__": "tutorial"}
    checked = 0
    for language, text, line in blocks(path.read_text(encoding="utf-8")):
        if language == "python":
            assert capsys.readouterr().out == "", f"what is printed above line {line} is not on the page"
            # Padded, so that a traceback names the page's own lines.
            exec(compile("\n" * (line - 1) + text, str(path), "exec"), names)
        else:
            assert capsys.readouterr().out == text, f"{path}:{line}"
            checked += 1
    assert capsys.readouterr().out == ""
    assert checked > 5


def test_the_readmes_actor_counts(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (program,) = [text for _, text, _ in blocks(page) if "Counter" in text]
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out == "2\n"
