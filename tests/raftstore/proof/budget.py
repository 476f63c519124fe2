"""How much is tried: a little in every test run, as much as one wants in `make campaign-store`."""

import os
from typing import Final

CAMPAIGN: Final = int(os.environ.get("UNDERSTUDY_CAMPAIGN", "1"))
"""So many times as much as usual."""
FIRST_SEED: Final = int(os.environ.get("UNDERSTUDY_SEED", "0"))
"""Campaigns with other first seeds try other things."""


def seeds(usual: int) -> list[int]:
    """The seeds to be tried."""
    return list(range(FIRST_SEED, FIRST_SEED + usual * CAMPAIGN))
