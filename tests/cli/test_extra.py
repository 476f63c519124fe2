"""Who installed `understudy` without `[etcd]` is told what is missing, by whatever needs it."""

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
from understudy.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("etcd", "--data-dir", "data"), "understudy etcd"),
        (("up", "--store", "etcd=http://127.0.0.1:1", "--bind", "127.0.0.1:0"), "--store etcd=..."),
    ],
)
@pytest.mark.parametrize(
    ("missing", "named"), [(["h2", "google", "bcrypt"], "h2, protobuf, bcrypt"), (["bcrypt"], "bcrypt")]
)
def test_what_is_not_installed_is_one_line_with_advice(
    arguments: tuple[str, ...], what: str, missing: list[str], named: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT.format(missing=missing), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == f"understudy: {what} needs {named} (pip install 'understudy[etcd]')\n"
    assert (done.returncode, done.stdout, list(tmp_path.glob("data*"))) == (2, "", [])
