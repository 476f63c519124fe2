"""What is shipped: a wheel with every module and every fact, however it was built, that works on its own."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("mailbox", "actors", "raftstore", "components", "properties")


def build(source: Path, kind: str, out: Path) -> Path:
    """Build a `wheel` or `sdist` of `source` with the backend that is installed here."""
    command = [
        sys.executable,
        "-m",
        "build",
        f"--{kind}",
        "--no-isolation",
        "--outdir",
        str(out),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def contents(wheel: Path) -> dict[str, str]:
    """Digest of each file in a wheel, without the list of digests itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if not name.endswith("/RECORD")
        }


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("direct"))


@pytest.fixture(scope="module")
def via_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, "sdist", folder)) as archive:
        archive.extractall(folder / "source", filter="data")
    [source] = (folder / "source").iterdir()
    return build(source, "wheel", folder / "wheel")


@pytest.fixture(scope="module")
def installed(direct: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True, symlinks=True)
    pip = str(folder / "bin" / "pip")
    command = [pip, "install", "--quiet", "--disable-pip-version-check", str(direct)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 and "Temporary failure in name resolution" in done.stderr:
        message = "the package index cannot be reached, so the wheel cannot be tried in an empty environment"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_both_ways_of_building_give_the_same_files(direct: Path, via_sdist: Path) -> None:
    assert contents(direct) == contents(via_sdist)


def test_the_wheel_holds_everything_once(direct: Path) -> None:
    names = set(contents(direct))
    for folder in FOLDERS:
        here = {
            f"understudy/{path.relative_to(ROOT)}"
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        assert here, folder
        assert here <= names, sorted(here - names)[:10]
    assert "understudy/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"understudy"}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def clean_environment() -> dict[str, str]:
    kept = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR"}
    return {name: value for name, value in os.environ.items() if name in kept}


def test_it_tells_its_version(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "understudy", "version"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^understudy \d+\.\d+", done.stdout)
    assert "Kubernetes v1.36" in done.stdout


def test_it_starts_a_cluster_and_stops_it(installed: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [installed / "understudy", "up", "--bind", "127.0.0.1:0", "--kubeconfig", "k/config"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        assert process.stderr is not None
        if not any(line.startswith("ready in ") for line in lines):
            pytest.fail(f"it ended before it was ready: {lines} {process.stderr.read()}")
        assert "https://127.0.0.1:" in (tmp_path / "k" / "config").read_text()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()
