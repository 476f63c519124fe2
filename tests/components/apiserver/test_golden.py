"""The recorded exchanges with a real API server that ours has to answer in the same way.

`golden_pass.txt` names the scenarios that pass. It only grows: one that fails is a regression, and one that
passes without being named is to be added (run `python tests/golden/replaying.py --write`).
"""

from pathlib import Path
from types import ModuleType

MUST_PASS = Path(__file__).with_name("golden_pass.txt")


def test_recorded_scenarios_pass_and_no_fewer_than_before(facts_dir: Path, replaying: ModuleType) -> None:
    results = replaying.replay(facts_dir)
    named = set(MUST_PASS.read_text().split())
    assert named <= set(results), f"no such scenario: {sorted(named - set(results))}"
    failed = {name: results[name] for name in sorted(named) if results[name]}
    assert not failed, failed
    passing = {name for name, differences in results.items() if not differences}
    assert passing == named, f"pass, but are not in {MUST_PASS.name}: {sorted(passing - named)}"


def test_a_replayer_notices_what_differs(replaying: ModuleType) -> None:
    bindings = replaying.Bindings({})
    recorded = {"metadata": {"uid": "{{uid:1}}", "resourceVersion": "{{rv:1}}"}, "owner": "{{uid:1}}", "n": 1}
    uid, other = "0" * 8 + "-0000" * 3 + "-" + "0" * 12, "1" * 8 + "-0000" * 3 + "-" + "0" * 12
    answer = {"metadata": {"uid": uid, "resourceVersion": "7"}, "owner": uid, "n": 1}
    assert bindings.differences(recorded, answer) == []
    assert bindings.bound == {"uid:1": uid, "rv:1": "7"}
    assert bindings.differences(recorded, {**answer, "owner": other}) != []
    assert bindings.differences(recorded, {**answer, "n": 2}) != []
    assert bindings.differences(recorded, {**answer, "n": True}) != []
    assert bindings.differences(recorded, {**answer, "more": 1}) != []
    assert bindings.differences({"message": "a"}, {"message": "b"}) == []
    assert bindings.differences({"message": "a"}, {"message": ""}) != []
