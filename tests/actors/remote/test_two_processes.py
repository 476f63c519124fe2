"""The example runs, and says what it promises."""

import os
import subprocess
import sys

from tests.conftest import REPOSITORY


def test_the_example_of_two_processes() -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "two_processes.py")],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    heard = lines.index("the desk hears of 9 letters")
    assert heard < lines.index("nobody there: child"), "in no order with the answer or with reports"
    del lines[heard]
    assert lines[:7] == [
        "counted to",
        "counted be",
        "counted or",
        "counted not",
        "letters: 9",
        "outside -> child:/clerk: example.count",
        "  child:/clerk -> parent:/desk: example.counted",
    ]
    assert sorted(lines[7:]) == [
        "child:/clerk has ended: RuntimeError('out of ink')",
        "nobody there: child",
        "the clerk crashed: RuntimeError('out of ink')",
    ]
