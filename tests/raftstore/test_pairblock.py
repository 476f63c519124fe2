"""A block of pairs in columns against a plain list of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.raftstore.pairblock import PairBlock
from understudy.raftstore.storage import KeyValue

NUMBERS = st.integers(0, 2**63 - 1)
PAIRS = st.builds(KeyValue, st.binary(max_size=3), st.binary(max_size=5), NUMBERS, NUMBERS, NUMBERS, NUMBERS)


@given(st.lists(st.tuples(st.sampled_from(["insert", "write", "remove"]), st.integers(0, 30), PAIRS)))
def test_a_block_is_a_list_of_pairs(steps: list[tuple[str, int, KeyValue]]) -> None:
    block, model = PairBlock(), list[KeyValue]()
    for step, number, pair in steps:
        at = number % (len(model) + (step == "insert")) if model else 0
        if step == "insert":
            block.insert(at, pair.key, pair)
            model.insert(at, pair)
        elif model and step == "write":
            old = model[at]
            new = KeyValue(
                old.key, pair.value, pair.create_revision, pair.mod_revision, pair.version, pair.lease
            )
            block.write(at, new)
            model[at] = new
        elif model:
            block.remove(at)
            del model[at]
    assert block.keys == [pair.key for pair in model]
    assert [block.read(at) for at in range(len(model))] == model == block.slice(0, len(model))
    half = len(model) // 2
    low, high = block.cut(0, half), block.cut(half, len(model))
    assert (low.slice(0, half), high.slice(0, len(model) - half)) == (model[:half], model[half:])
    again = PairBlock.of(block.columns(0, half))
    again.extend(high)
    assert again == block


@pytest.mark.parametrize("number", [2**63, "1", None])
def test_what_is_no_number_of_64_bits_is_refused(number: Any) -> None:
    with pytest.raises(ValueError, match="numbers of pairs"):
        PairBlock.of(([b"k"], [b"v"], [2], [2], [number], [0]))
