"""A user-space service dataplane: decides for each new connection which endpoint it goes to.

Without a source of randomness each rule goes round its endpoints in turn, which is exactly even; with one,
endpoints are drawn evenly, as the kernel's dataplanes do. ClientIP affinity sends a client to the endpoint
that it had, as long as that endpoint is in the rules and the client came back within the time-out.
"""

from collections.abc import Mapping
from typing import Protocol as Shape

from attrs import Factory, define, frozen

from understudy.components.boundary.dataplane import (
    Action,
    Connect,
    Empty,
    Endpoint,
    Protocol,
    RuleSet,
    ServicePortName,
    ServiceRule,
    Verdict,
)

AFFINITIES_MAX = 65536
"""Clients remembered at most; beyond it the one unseen for longest is forgotten."""


class Rng(Shape):
    """What the balancer asks of a source of randomness: `random.Random` has it."""

    def randrange(self, stop: int, /) -> int: ...


Target = tuple[str, int, Protocol]
"""Destination address, port and protocol of a connection."""
RuleKey = tuple[ServicePortName, Protocol, int]
"""The last is the address family: a Service with two has two rules."""


@frozen
class _Entry:
    rule: ServiceRule
    endpoints: tuple[Endpoint, ...]
    empty: Empty


@frozen
class _Affinity:
    endpoint: tuple[str, int]
    last_used: float


def _key(rule: ServiceRule) -> RuleKey:
    return rule.service, rule.protocol, 6 if rule.cluster_ips and ":" in rule.cluster_ips[0] else 4


def _table(rules: RuleSet) -> dict[Target, _Entry]:
    """Every address that is served. Cluster IPs win over external ones, and both over node ports."""
    table: dict[Target, _Entry] = {}
    for rule in rules.services:
        outside = _Entry(rule, rule.external_endpoints, rule.external_empty)
        for ip in rule.cluster_ips:
            inside = _Entry(rule, rule.cluster_endpoints, rule.cluster_empty)
            table.setdefault((ip, rule.port, rule.protocol), inside)
        for ip in rule.external_ips:
            table.setdefault((ip, rule.port, rule.protocol), outside)
        if rule.node_port:
            family = _key(rule)[2]
            for ip in rules.node_ips:
                if (6 if ":" in ip else 4) == family:
                    table.setdefault((ip, rule.node_port, rule.protocol), outside)
    return table


@define(eq=False)
class Balancer:
    """The state of one node's dataplane. Times are seconds on any monotonic clock."""

    rng: Rng | None = None
    """None goes round the endpoints in turn."""
    generation: int = 0
    _entries: Mapping[Target, _Entry] = Factory(dict)
    _cluster_ips: frozenset[str] = frozenset()
    _turns: dict[RuleKey, int] = Factory(dict)
    _affinities: dict[tuple[RuleKey, str], _Affinity] = Factory(dict)
    """Least recently used first."""

    def replace(self, rules: RuleSet, generation: int) -> int:
        """Take over a rule set unless a newer one is in force; returns the generation in force."""
        if generation < self.generation:
            return self.generation
        self.generation = generation
        self._entries = _table(rules)
        self._cluster_ips = frozenset(ip for rule in rules.services for ip in rule.cluster_ips)
        keys = {_key(rule) for rule in rules.services}
        self._turns = {key: turn for key, turn in self._turns.items() if key in keys}
        self._affinities = {key: value for key, value in self._affinities.items() if key[0] in keys}
        return generation

    def connect(self, connection: Connect, now: float) -> Verdict:
        """Where a new connection goes."""
        target = connection.destination_ip, connection.destination_port, connection.protocol
        entry = self._entries.get(target)
        if entry is None:
            # A cluster IP answers on its Services' ports only; it exists nowhere else.
            if connection.destination_ip in self._cluster_ips:
                return Verdict(Action.REJECT)
            return Verdict(Action.PASS, connection.destination_ip, connection.destination_port)
        service = entry.rule.service
        if not entry.endpoints:
            action = Action.DROP if entry.empty is Empty.DROP else Action.REJECT
            return Verdict(action, service=service)
        endpoint = self._choose(entry, connection.source_ip, now)
        return Verdict(Action.FORWARD, endpoint.ip, endpoint.port, service)

    def _choose(self, entry: _Entry, client: str, now: float) -> Endpoint:
        rule, endpoints = entry.rule, entry.endpoints
        if not rule.session_affinity_seconds:
            return self._next(rule, endpoints)
        key = _key(rule), client
        known = self._affinities.pop(key, None)
        chosen = None
        if known is not None and now - known.last_used < rule.session_affinity_seconds:
            chosen = next((e for e in endpoints if (e.ip, e.port) == known.endpoint), None)
        if chosen is None:
            chosen = self._next(rule, endpoints)
        self._affinities[key] = _Affinity((chosen.ip, chosen.port), now)
        if len(self._affinities) > AFFINITIES_MAX:
            del self._affinities[next(iter(self._affinities))]
        return chosen

    def _next(self, rule: ServiceRule, endpoints: tuple[Endpoint, ...]) -> Endpoint:
        if self.rng is not None:
            return endpoints[self.rng.randrange(len(endpoints))]
        key = _key(rule)
        turn = self._turns.get(key, 0)
        self._turns[key] = turn + 1
        return endpoints[turn % len(endpoints)]
