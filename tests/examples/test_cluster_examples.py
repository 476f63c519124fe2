"""The examples of whole clusters print what their readers expect."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str) -> list[str]:
    """The lines that an example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_simulated_cluster_repeats_exactly() -> None:
    first, again, other = run("simulated.py")
    assert "3 replicas ready" in first
    assert first == again
    assert other.split("trace ")[1] != first.split("trace ")[1]


def test_a_cluster_inside_a_trio_program() -> None:
    nodes, url, answer = run("embedded.py")
    assert nodes == "nodes: node-1, node-2"
    assert url.startswith("the API is served at https://127.0.0.1:")
    assert answer == "the pod answers: hello"
