"""`understudy trace` as a user meets it: what it prints, writes and refuses."""

from pathlib import Path

import pytest

from understudy.cli import run

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  containers:
    - name: web
      image: nginx
"""


def trace(*arguments: str | Path) -> int:
    return run(["trace", *map(str, arguments)])


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on the error output; nothing else was printed."""
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("understudy: ")
    return line.removeprefix("understudy: ")


def test_it_tells_the_story_and_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, page = tmp_path / "pod.yaml", tmp_path / "pod.html"
    manifest.write_text(POD.format(name="web"))
    assert trace(manifest, "--html", page, "--nodes", "1") == 0
    printed = capsys.readouterr().out
    assert "you → kube-apiserver: create pod/web" in printed
    assert "StartContainer web" in printed
    assert "phase=Running" in printed
    assert f"page: {page}" in printed
    written = page.read_text(encoding="utf-8")
    assert written.startswith("<!doctype html>")
    assert "StartContainer web" in written


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2\n", ":2:2: malformed YAML: did not find expected ',' or ']'"),
        ("a: 1\n  b: 2\n", ":2:4: malformed YAML: mapping values are not allowed"),
        ("# one\n---\na: 1\nb: 2\na: 3\n", ': the document at line 3: line 3: key "a" already set in map'),
        ("kind: Pod\n", ": an object without apiVersion"),
        ("{apiVersion: v1, kind: Pot, metadata: {name: a}}", ': no matches for kind "Pot" in version "v1"'),
        ("- a\n", ": an object was expected, not list"),
        ("# nothing\n", ": there is no object in it"),
        ("{apiVersion: v1, kind: List, items: [3]}", ": an object was expected, not int '3'"),
        ("{apiVersion: v1, kind: Pod, metadata: 3}", ": metadata of Pod is not an object"),
        ("{apiVersion: v1, kind: List, items: 3}", ": items of a List are not a list"),
    ],
)
def test_a_manifest_that_cannot_be_run_is_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "bad.yaml"
    manifest.write_text(text)
    assert trace(manifest) == 2
    assert complaint(capsys).startswith(f"{manifest}{said}")


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace(tmp_path / "missing.yaml") == 2
    assert complaint(capsys) == f"{tmp_path}/missing.yaml: No such file or directory"
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert trace(binary) == 2
    assert "not UTF-8" in complaint(capsys)
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(POD.format(name="web"))
    assert trace(manifest, "--html", tmp_path / "no" / "page.html") == 2
    assert complaint(capsys).startswith(f"{tmp_path}/no/page.html: No such file or directory")
    assert trace(manifest, "--nodes", "many") == 2
    assert "many" in complaint(capsys)


def test_a_refused_object_is_told_with_the_servers_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, page = tmp_path / "pod.yaml", tmp_path / "page.html"
    manifest.write_text(POD.format(name="Not_A_Name"))
    assert trace(manifest, "--nodes", "0", "--html", page) == 1
    line = complaint(capsys)
    assert line.startswith(f"{manifest}: pod/Not_A_Name was refused: 422 Invalid: ")
    assert "metadata.name" in line
    assert not page.exists()
