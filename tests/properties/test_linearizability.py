"""The checker against a twin that tries every order, and against histories whose verdict is known."""

from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.properties.linearizability import (
    UNKNOWN,
    CompareAndSet,
    Delete,
    Operation,
    Read,
    ReadResult,
    StoreModel,
    Verdict,
    Write,
    WriteResult,
    check,
)

KEYS = (b"a", b"b")
MODEL = StoreModel()


def dumb_check(history: list[Operation]) -> bool:
    """Every subset of what is unknown, in every order that time allows."""
    unknown = [operation for operation in history if operation.returned is None]
    known = [operation for operation in history if operation.returned is not None]
    return any(
        _explains(order)
        for size in range(len(unknown) + 1)
        for chosen in combinations(unknown, size)
        for order in permutations([*known, *chosen])
    )


def _explains(order: tuple[Operation, ...]) -> bool:
    for position, operation in enumerate(order):
        if any(
            later.returned is not None and later.returned < operation.called
            for later in order[position + 1 :]
        ):
            return False
    states: list[Any] = [MODEL.initial()]
    for operation in order:
        states = [new for state in states for new in MODEL.step(state, operation.request, operation.result)]
    return bool(states)


def requests() -> st.SearchStrategy[Any]:
    keys, values = st.sampled_from(KEYS), st.sampled_from((b"1", b"2"))
    return st.one_of(
        st.builds(Write, keys, values),
        st.builds(Delete, keys),
        st.builds(Read, keys),
        st.builds(CompareAndSet, keys, st.integers(0, 3), values),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Operations that took effect one after another; then results, at times, are made wrong or unknown."""
    history, state = [], MODEL.initial()
    for number in range(draw(st.integers(1, 5))):
        request = draw(requests())
        results = [
            *(WriteResult(state[0] + done, done) for done in (False, True)),
            ReadResult(state[0], None),
            *(ReadResult(state[0], value, mod) for _, value, mod, _ in state[1]),
        ]
        result, state = next(
            (result, new) for result in results for new in MODEL.step(state, request, result)
        )
        called = number * 2 - draw(st.integers(0, 4))
        returned = number * 2 + draw(st.integers(0, 4))
        if draw(st.integers(0, 5)) == 0:
            result = draw(st.sampled_from(results))
        if draw(st.integers(0, 4)) == 0:
            history.append(Operation(number, called, None, request))
        else:
            history.append(Operation(number, called, max(called, returned), request, result))
    return history


@settings(max_examples=300)
@given(histories())
def test_the_verdict_is_that_of_trying_every_order(history: list[Operation]) -> None:
    verdict = check(history, MODEL)
    assert verdict.linearizable == dumb_check(history), verdict
    if verdict.linearizable:
        assert _explains(verdict.order)
        assert {operation for operation in history if operation.returned is not None} <= set(verdict.order)
    else:
        assert verdict.stuck_at


def check_all(*operations: tuple[float, float | None, Any, Any]) -> Verdict:
    return check([Operation(n, *operation) for n, operation in enumerate(operations)], MODEL)


def test_a_stale_read_is_found_and_shown() -> None:
    verdict = check_all(
        (0, 1, Write(b"a", b"1"), WriteResult(2)),
        (2, 3, Write(b"a", b"2"), WriteResult(3)),
        (4, 5, Read(b"a"), ReadResult(2, b"1", 2)),
    )
    assert verdict.linearizable is False
    assert [operation.request for operation in verdict.stuck_at] == [Read(b"a")]
    assert "not linearizable" in str(verdict)
    assert "none of these can come next" in str(verdict)


def test_a_lost_acknowledged_write_is_found() -> None:
    verdict = check_all(
        (0, 1, Write(b"a", b"1"), WriteResult(2)),
        (2, 3, Read(b"a"), ReadResult(1, None)),
    )
    assert verdict.linearizable is False


def test_a_write_of_unknown_outcome_may_show_late_or_never() -> None:
    unknown = (0, None, Write(b"a", b"1"), UNKNOWN)
    assert check_all(unknown, (1, 2, Read(b"a"), ReadResult(1, None))).linearizable
    shown = (3, 4, Read(b"a"), ReadResult(2, b"1", 2))
    assert check_all(unknown, (1, 2, Read(b"a"), ReadResult(1, None)), shown).linearizable
    gone = (5, 6, Read(b"a"), ReadResult(1, None))
    assert check_all(unknown, shown, gone).linearizable is False


def test_a_search_that_takes_too_long_gives_no_verdict() -> None:
    history = [Operation(n, 0, None, Write(b"a", bytes([n]))) for n in range(12)]
    history.append(Operation(12, 0, 1, Read(b"a"), ReadResult(99, b"", 99)))
    verdict = check(history, MODEL, steps_max=1_000)
    assert verdict.linearizable is None
    assert "no verdict" in str(verdict)


def test_ten_thousand_operations_of_ten_clients_take_few_steps() -> None:
    history = [
        Operation(n % 10, n, n + 9.5, Write(KEYS[n % 2], str(n).encode()), WriteResult(n + 2))
        for n in range(10_000)
    ]
    verdict = check(history, MODEL)
    assert verdict.linearizable
    assert verdict.steps < 25_000


def test_a_result_without_a_time_of_return_is_refused() -> None:
    with pytest.raises(ValueError, match="exactly when it has a result"):
        Operation(0, 0, None, Read(b"a"), ReadResult(1, None))
    with pytest.raises(ValueError, match="returns after it is called"):
        Operation(0, 2, 1, Read(b"a"), ReadResult(1, None))
