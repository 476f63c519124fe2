"""The pod-template-hash: a short name for a pod template.

A 32-bit FNV-1a over the template in one canonical form, written in the alphabet that Kubernetes uses for
generated names (no vowels, so no words). The values differ from those of a real controller manager, which
hashes a dump of its own data structures; everything that reads them treats them as opaque.
"""

from typing import Any

import orjson

from understudy.components.controllers.equality import without_empty

Object = dict[str, Any]

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
HASH_LABEL = "pod-template-hash"


def template_hash(template: Object, collision_count: int | None) -> str:
    """The hash of a template; `collision_count` gives another one when its name is taken."""
    data = orjson.dumps(without_empty(template), option=orjson.OPT_SORT_KEYS)
    if collision_count is not None:
        data += collision_count.to_bytes(8, "little")
    return safe_text(str(fnv1a_32(data)))


def fnv1a_32(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def safe_text(text: str) -> str:
    """The text in the alphabet of generated names, character by character."""
    return "".join(ALPHABET[ord(character) % len(ALPHABET)] for character in text)
