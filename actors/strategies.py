"""Hypothesis strategies for plans, so that payload, order of turns and crashes shrink together.

    @given(orders=lists(...), plan=plans(crash_paths=["/stock"]))
    def test_no_order_is_lost(orders, plan):
        async def scenario(system): ...  # closes over `orders`
        simulate(scenario, plan)

Everything is drawn before the run, from the one sequence of choices that Hypothesis shrinks and keeps in its
database; nothing is drawn inside Trio's loop, which would break Trio when Hypothesis stops a test there.
Needs Hypothesis, which `understudy` itself does not depend on.
"""

from collections.abc import Sequence

from hypothesis import strategies as st

from .plan import Plan
from .schedule import Deviations

TURNS_MAX = 60
"""Deviations and crashes fall on turns below this unless told otherwise: about the length of the run."""

HOLD_TURNS_MAX = 32
"""The longest hold."""


def _skips(turns_max: int, deviations_max: int, skip_max: int) -> st.SearchStrategy[dict[int, int]]:
    # No deviation is the simplest, then few, early and small ones.
    return st.dictionaries(st.integers(0, turns_max - 1), st.integers(1, skip_max), max_size=deviations_max)


def deviations(
    *, turns_max: int = TURNS_MAX, deviations_max: int = 8, skip_max: int = 4
) -> st.SearchStrategy[Deviations]:
    """Schedules that are first come, first served but for some turns: for `SimWorld` itself."""
    return _skips(turns_max, deviations_max, skip_max).map(Deviations)


def plans(
    *,
    turns_max: int = TURNS_MAX,
    deviations_max: int = 8,
    skip_max: int = 4,
    crash_paths: Sequence[str] = (),
    crashes_max: int = 2,
    seeds: st.SearchStrategy[int] | None = None,
) -> st.SearchStrategy[Plan]:
    """Plans for `simulate`: skips, holds, crashes of `crash_paths` (actors or hosts), and by default seed 0.

    At most `deviations_max` of each kind of deviation.
    """
    crashes: st.SearchStrategy[dict[int, str]] = st.just({})
    if crash_paths:
        where = st.sampled_from(list(crash_paths))
        crashes = st.dictionaries(st.integers(0, turns_max - 1), where, max_size=crashes_max)
    holds = _skips(turns_max, deviations_max, HOLD_TURNS_MAX)
    skips = _skips(turns_max, deviations_max, skip_max)
    return st.builds(Plan, seeds or st.just(0), skips, holds, crashes)
