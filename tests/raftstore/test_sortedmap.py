"""A sorted map and its forks against plain dicts."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from understudy.raftstore import sortedmap
from understudy.raftstore.sortedmap import SortedMap

KEYS = st.integers(0, 60).map(lambda n: b"%02d" % n)
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.integers(0, 9)),
    st.tuples(st.just("pop"), KEYS, st.just(0)),
    st.tuples(st.just("change"), KEYS, st.integers(0, 9)),
    st.tuples(st.just("fork"), st.just(b""), st.just(0)),
    st.tuples(st.just("turn"), st.just(b""), st.integers(0, 9)),
)


def check(
    tested: SortedMap[bytes, list[int]], model: dict[bytes, list[int]], start: bytes, end: bytes
) -> None:
    assert len(tested) == len(model)
    assert [(key, value) for key, value in tested.items()] == sorted(model.items())
    for stop in (end, None):
        inside = [key for key in sorted(model) if key >= start and (stop is None or key < stop)]
        assert tested.count(start, stop) == len(inside)
        assert tested.values(start, stop) == [model[key] for key in inside]
        assert tested.values(start, stop, 3) == [model[key] for key in inside[:3]]
    blocks = [(len(block.keys), block.slice(0, len(block.keys))) for block in tested.blocks()]
    assert [value for _, values in blocks for value in values] == [model[key] for key in sorted(model)]
    assert all(0 < size == len(values) <= sortedmap.BLOCK_MAX for size, values in blocks)
    for key in (start, end):
        assert tested.get(key) == model.get(key) and (key in tested) is (key in model)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=120), KEYS, KEYS)
@example([("put", b"%02d" % n, 0) for n in (0, 2, 3, 4, 5, 6, 1)], b"03", b"01")  # An end before the start.
def test_a_map_and_its_forks_are_dicts_that_know_nothing_of_one_another(
    steps: list[tuple[str, bytes, int]], start: bytes, end: bytes
) -> None:
    with small_blocks():
        maps: list[SortedMap[bytes, list[int]]] = [SortedMap(list.copy)]
        models: list[dict[bytes, list[int]]] = [{}]
        turn = 0
        for step, key, number in steps:
            tested, model = maps[turn], models[turn]
            if step == "put":
                tested.get(key)
                tested.put(key, [number])
                model[key] = [number]
            elif step == "pop":
                assert tested.pop(key) == model.pop(key, None)
            elif step == "change":
                value = tested.writable(key)
                assert value == model.get(key)
                if value is not None:
                    value.append(number)
                    model[key] = [*model[key], number]
            elif step == "fork" and len(maps) < 4:
                maps.append(tested.fork())
                models.append(dict(model))
            else:
                turn = number % len(maps)
        for tested, model in zip(maps, models, strict=True):
            check(tested, model, start, end)


class small_blocks:
    """Blocks of a few keys, so that they are split and put together in a short test."""

    def __enter__(self) -> None:
        self.before = sortedmap.BLOCK_MAX, sortedmap.BLOCK_MIN
        knobs: Any = sortedmap
        knobs.BLOCK_MAX, knobs.BLOCK_MIN = 6, 2

    def __exit__(self, *_: object) -> None:
        knobs: Any = sortedmap
        knobs.BLOCK_MAX, knobs.BLOCK_MIN = self.before


def test_ascending_keys_leave_full_blocks() -> None:
    tested: SortedMap[int, int] = SortedMap()
    for number in range(5 * sortedmap.BLOCK_MAX):
        tested.put(number, number)
    assert [len(block.keys) for block in tested.blocks()] == [sortedmap.BLOCK_MAX] * 5


def test_a_write_after_a_fork_copies_one_block() -> None:
    tested: SortedMap[int, int] = SortedMap()
    for number in range(5 * sortedmap.BLOCK_MAX):
        tested.put(number, number)
    view = tested.fork()
    tested.put(0, 1)
    shared = [mine is theirs for mine, theirs in zip(tested.blocks(), view.blocks(), strict=True)]
    assert shared == [False, True, True, True, True]
