"""Times as API objects write them."""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=4096)
def parse_time(text: str) -> datetime:
    """The moment that an RFC 3339 text (`metav1.Time` or `metav1.MicroTime`) states, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def seconds_since(text: str, now: datetime) -> float:
    """Seconds from the moment that `text` states to `now`; negative when it is still to come."""
    return (now - parse_time(text)).total_seconds()


def created_at(obj: dict[str, object]) -> str:
    """The object's creation timestamp, "" when it has none: sorts like time does."""
    metadata = obj["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata.get("creationTimestamp") or "")
