"""The table of leases against a dict of sets; views of it stay as they were."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.raftstore.leases import LeaseState, LeaseTable

IDS = st.sampled_from([-7, 1])
KEYS = st.sampled_from([b"a", b"b"])
STEPS = st.one_of(
    st.tuples(st.sampled_from(["add", "remove", "checkpoint"]), IDS, st.just(b"")),
    st.tuples(st.sampled_from(["attach", "detach"]), IDS, KEYS),
    st.tuples(st.sampled_from(["attach", "detach"]), IDS, KEYS),
    st.tuples(st.just("fork"), IDS, st.just(b"")),
)


def check(table: LeaseTable, model: dict[int, set[bytes]], remaining: dict[int, int]) -> None:
    assert table.ids() == tuple(sorted(model)) and len(table) == len(model)
    for lease in (-7, 1):
        assert (lease in table) is (lease in model)
        assert table.keys(lease) == tuple(sorted(model.get(lease, ())))
    assert {state.id: state.remaining_s for state in table} == remaining
    # Nothing is kept for a lease without keys: there may be millions.
    assert dict(table.attached.items()).keys() == {lease for lease, keys in model.items() if keys}


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, min_size=10, max_size=40))
def test_leases_know_their_keys_and_views_of_them_stay(steps: list[tuple[str, int, bytes]]) -> None:
    table = LeaseTable()
    model: dict[int, set[bytes]] = {}
    remaining: dict[int, int] = {}
    views: list[tuple[LeaseTable, Any, Any]] = []
    for number, (step, lease, key) in enumerate(steps, 1):
        match step:
            case "add" if lease not in model:
                table.add(LeaseState(lease, 60))
                model[lease], remaining[lease] = set(), 0
            case "remove" if lease in model:
                assert table.remove(lease) == sorted(model.pop(lease))
                del remaining[lease]
            case "checkpoint":
                table.checkpoint(lease, number)
                if lease in model:
                    remaining[lease] = number
            case "attach" if lease in model:
                table.attach(lease, key)
                model[lease].add(key)
            case "detach":
                table.detach(lease, key)
                model.get(lease, set()).discard(key)
            case "fork":
                copy = {each: set(keys) for each, keys in model.items()}
                views.append((table.fork(), copy, dict(remaining)))
        check(table, model, remaining)
    for view in views:
        check(*view)
