"""The shipped facts are what the generator makes of the recordings."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SHIPPED = REPOSITORY / "components" / "machinery" / "facts"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_facts", REPOSITORY / "tools" / "generate_facts.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_regenerating_changes_nothing(generator: ModuleType, facts_dir: Path) -> None:
    made: dict[str, bytes] = generator.generate(facts_dir)
    shipped = {p.name: p.read_bytes() for p in SHIPPED.iterdir() if p.suffix in (".gz", ".json")}
    assert sorted(made) == sorted(shipped)
    plain = generator.plain
    stale = [name for name in sorted(made) if plain(name, made[name]) != plain(name, shipped[name])]
    assert not stale, f"run tools/generate_facts.py: {stale}"


def test_the_shipped_facts_are_small() -> None:
    size = sum(p.stat().st_size for p in SHIPPED.iterdir() if p.suffix in (".gz", ".json"))
    assert size < 400_000
