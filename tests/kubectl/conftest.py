"""A real `understudy up` in a process of its own, and an unmodified kubectl that talks to it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

KUBECTL_MINOR_MIN = 31
DEADLINE_SECONDS = 60


@frozen
class Kubectl:
    """kubectl with one kubeconfig and one namespace."""

    kubeconfig: Path
    namespace: str
    dns: tuple[str, int]

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True, **env: str) -> str:
        """Run a command; returns what it printed, both streams together."""
        done = self.run(*arguments, stdin=stdin, **env)
        output = done.stdout + done.stderr
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)} ended with {done.returncode}:\n{output}")
        return output

    def run(self, *arguments: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command; returns its outcome."""
        return subprocess.run(
            ["kubectl", "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            env={**os.environ, **env},
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """What a `get` says, parsed."""
        return json.loads(self.run(*arguments, "-o", "json").stdout)

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that goes on, e.g. a watch."""
        return subprocess.Popen(
            ["kubectl", "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def kubectl_minor() -> int | None:
    """The minor version of the kubectl on the path, or None."""
    if shutil.which("kubectl") is None:
        return None
    done = subprocess.run(
        ["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=False
    )
    found = re.search(r'"minor": "(\d+)', done.stdout)
    return int(found[1]) if found else None


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, tuple[str, int]]]:
    """A running cluster: its kubeconfig and the address of its DNS server."""
    minor = kubectl_minor()
    if minor is None or minor < KUBECTL_MINOR_MIN:
        message = f"kubectl 1.{KUBECTL_MINOR_MIN} or newer is not on the path: the main job is not tested"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("up")
    kubeconfig = folder / "kubeconfig"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "understudy",
                "up",
                "--bind",
                "127.0.0.1:0",
                "--kubeconfig",
                str(kubeconfig),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        dns = ("", 0)
        for line in process.stdout:
            found = re.match(r"\s+coredns\s+(\S+):(\d+)", line)
            if found:
                dns = (found[1], int(found[2]))
            if "Ctrl-C stops" in line:
                break
        else:
            raise AssertionError(f"understudy up ended with {process.wait()}: {(folder / 'log').read_text()}")
        yield kubeconfig, dns
    finally:
        process.send_signal(signal.SIGTERM)
        outcome = process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
    assert outcome == 0, f"understudy up ended with {outcome}"
    assert (folder / "log").read_text() == "", "the cluster complained while kubectl was at work"


@pytest.fixture
def kubectl(up: tuple[Path, tuple[str, int]], request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """kubectl in a namespace of its own."""
    kubeconfig, dns = up
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))[:50].strip("-")
    admin = Kubectl(kubeconfig, "default", dns)
    admin("create", "namespace", name)
    yield Kubectl(kubeconfig, name, dns)
    admin("delete", "namespace", name, "--wait=false")
