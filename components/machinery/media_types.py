"""Accept headers: what a client would like, best first (RFC 9110, section 12.5.1)."""

from attrs import frozen


@frozen
class MediaRange:
    """One clause of an Accept header."""

    type: str
    """`application/json`, `application/*` or `*/*`, in lower case."""
    parameters: dict[str, str]
    """Without `q`; e.g. `as`, `v` and `g` of Kubernetes' transformations. Names in lower case."""
    quality: float = 1.0

    def matches(self, media_type: str) -> bool:
        """Whether the clause covers that type (without parameters)."""
        main, _, sub = self.type.partition("/")
        other_main, _, other_sub = media_type.partition("/")
        return main in ("*", other_main) and sub in ("*", other_sub)


def parse_accept(header: str) -> tuple[MediaRange, ...]:
    """The clauses, best quality first, in the header's order among equals.

    An empty header accepts anything. Clauses of quality 0 and clauses that cannot be read are left out.
    """
    if not header.strip():
        return (MediaRange("*/*", {}),)
    ranges = []
    for clause in header.split(","):
        media_type, *rest = (part.strip() for part in clause.split(";"))
        parameters = {
            name.strip().lower(): value.strip().strip('"')
            for name, equals, value in (part.partition("=") for part in rest)
            if equals
        }
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        media_type = "*/*" if media_type == "*" else media_type.lower()
        if "/" in media_type and 0 < quality <= 1:
            ranges.append(MediaRange(media_type, parameters, quality))
    return tuple(sorted(ranges, key=lambda clause: -clause.quality))


def preferred(header: str, offered: tuple[str, ...]) -> str | None:
    """The offered type that the client likes best (a wildcard: the first offered); None if none will do."""
    for clause in parse_accept(header):
        for media_type in offered:
            if clause.matches(media_type):
                return media_type
    return None
