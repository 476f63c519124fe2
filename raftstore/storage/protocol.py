"""What all the messages of the contract have in common: the protocol, and how ranges are named."""

from typing import Final

ALL_KEYS_END: Final = b"\0"
"""As `range_end`: every key from `key` on."""


class Storage:
    """The protocol of every store: `Ref[Storage]` takes the requests of these modules."""


def prefix_end(prefix: bytes) -> bytes:
    """The `range_end` under which a range covers exactly the keys that start with `prefix`.

    `prefix_end(b"/registry/") == b"/registry0"`; a prefix of nothing but 0xff bytes (or the empty one)
    reaches to the end of the key space.
    """
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return ALL_KEYS_END
    return stem[:-1] + bytes((stem[-1] + 1,))
