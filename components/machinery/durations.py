"""Go's text form of a length of time: `1h2m3.5s`. Lengths are in nanoseconds."""

import re
from decimal import Decimal

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration. Raises ValueError with Go's words."""
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0
    total = Decimal(0)
    at = 0
    while at < len(body):
        part = _PART.match(body, at)
        if part is None:
            break
        total += Decimal(part[1]) * _UNITS_NS[part[2]]
        at = part.end()
    number = -int(total) if text.startswith("-") else int(total)
    if at < len(body) or not body or not -(2**63) <= number < 2**63:
        raise ValueError(f'time: invalid duration "{text}"')
    return number


def format_duration(nanoseconds: int) -> str:
    """The Go form: the largest units from hours down, below one second a single smaller unit."""
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(nanoseconds)
    if rest < 1_000_000_000:
        unit = "ns" if rest < 1_000 else "µs" if rest < 1_000_000 else "ms"
        return f"{sign}{_decimal(rest, _UNITS_NS[unit])}{unit}"
    minutes, rest = divmod(rest, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{sign}{text}{_decimal(rest, 1_000_000_000)}s"


def _decimal(number: int, unit: int) -> str:
    whole, part = divmod(number, unit)
    if not part:
        return str(whole)
    return f"{whole}.{part:0{len(str(unit)) - 1}d}".rstrip("0")
