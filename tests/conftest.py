"""Fixtures shared by every test."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def facts_dir() -> Path:
    """The folder of recorded facts: UNDERSTUDY_FACTS, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("UNDERSTUDY_FACTS", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "kubernetes" / "README.md").is_file():
        hint = "set UNDERSTUDY_FACTS to the folder that holds kubernetes/ and raft/"
        message = f"no recorded facts at {folder}: {hint}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
