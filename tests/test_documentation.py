"""The code on a page of the documentation runs and prints what the page says; the tests named there exist."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"`(?!`)((?:\w+/)*test_\w+\.py)?(?:::(test_\w+(?:\.\.\.)?))?`")


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


def named_tests(page: str) -> list[tuple[str, str]]:
    """(file, test) of each `file.py::test` that a page names, and (file, "") of each file alone.

    `::test` belongs to the file named before it in the paragraph or row; `_...` is the rest of a name.
    """
    found: list[tuple[str, str]] = []
    for part in re.split(r"\n\n|(?<=\|)\n", page):
        file = ""
        for named, test in TEST.findall(part):
            file = named or file
            found.append((file, test))
    return found


def where(name: str, layer: str) -> list[Path]:
    """The files of tests that a page means by a name: of its own layer, or of all where that has none."""
    tests = DOCS.parent / "tests"
    for folder in (tests / layer, tests):
        found = [
            file for file in sorted(folder.rglob("test_*.py")) if f"/{file.as_posix()}".endswith(f"/{name}")
        ]
        if found:
            return found
    return []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    wrong: list[str] = []
    for name, test in named_tests(page.read_text(encoding="utf-8")):
        files = where(name, page.stem) if name else []
        if len(files) != 1:
            wrong.append(f"{name}::{test}: {len(files)} files have this name")
            continue
        names = re.findall(r"^ *(?:async )?def (test_\w+)\(", files[0].read_text("utf-8"), re.MULTILINE)
        start = test.removesuffix("...")
        if test and not any(each == test or (start != test and each.startswith(start)) for each in names):
            wrong.append(f"{name} has no {test}")
    assert not wrong, "\n".join(wrong)


def test_a_page_s_tests_are_found_in_it() -> None:
    page = "By `a/test_b.py::test_c_...`, `::test_d`;\nand `test_e.py`.\n\n| `::test_f` |\n"
    assert named_tests(page) == [
        ("a/test_b.py", "test_c_..."),
        ("a/test_b.py", "test_d"),
        ("test_e.py", ""),
        ("", "test_f"),
    ]
    assert len(named_tests((DOCS / "raftstore.md").read_text("utf-8"))) > 80
