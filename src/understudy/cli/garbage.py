"""How CPython looks for garbage in a process that serves."""

import ctypes
import gc
from typing import Final

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""API objects are trees of dicts without cycles, and what a store keeps stays. Looking through them every 700
new objects, as CPython does by itself, finds nothing, costs a third of the time of a burst of a thousand
pods, and holds up a store under load for 30 ms again and again."""

START_THRESHOLD: Final = 1_000_000
"""While a process starts, nothing that it loads is garbage. So many objects are more than what a store
reads from its log; a start that waits long for others, and makes garbage meanwhile, is looked through too."""


def put_off() -> None:
    """A start begins: do not look for garbage until `settle`, unless there comes very much."""
    gc.set_threshold(START_THRESHOLD)


def settle() -> None:
    """Look for garbage once, and from now on seldom, and never again among what there is now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    _give_back()


def _give_back() -> None:
    """Have the C library return what a start has needed: the bytes of a long log, for instance."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return  # Only glibc keeps it, and can be told.
    trim(0)
