"""Figures for Prometheus: a collector that reads the system when it is scraped, and holds nothing.

Needs prometheus-client: `pip install understudy[metrics]`. Register it where you serve metrics, say with
`registry.register(ActorCollector(system))`: there is no global registry here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import define

from understudy.actors.system import ActorStatus, ActorSystem

from .tree import HandlerTimes

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as missing:
    raise ImportError("prometheus-client is missing: pip install 'understudy[metrics]'") from missing

ACTORS_MAX = 1000
"""Series for single actors are given for the first so many by path: labels must not grow without bound."""


@define(eq=False)
class ActorCollector(Collector):
    """Collects the figures of one system. Call it in the system's own thread, or while nothing runs there."""

    system: ActorSystem
    times: HandlerTimes | None = None
    actors_max: int = ACTORS_MAX

    def collect(self) -> Iterable[Metric]:
        """The metrics of this moment."""
        statuses = self.system.statistics()
        yield from _totals(self.system, statuses)
        shown = statuses[: self.actors_max]
        yield _gauge(
            "understudy_actors_not_shown",
            "Living actors beyond the limit of series.",
            len(statuses) - len(shown),
        )
        yield from _by_actor(shown)
        if self.times is not None:
            yield from _by_handler(self.times, {status.path for status in shown})


def metrics_text(system: ActorSystem, times: HandlerTimes | None = None) -> str:
    """The figures of this moment in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ActorCollector(system, times))
    return generate_latest(registry).decode()


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _totals(system: ActorSystem, statuses: list[ActorStatus]) -> Iterable[Metric]:
    states = GaugeMetricFamily("understudy_actors", "Living actors by state.", labels=["state"])
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status.state] = counts.get(status.state, 0) + 1
    for state, number in sorted(counts.items()):
        states.add_metric([state], number)
    yield states
    yield _gauge(
        "understudy_mailbox_depth_sum",
        "Waiting messages of all actors.",
        sum(s.mailbox.depth for s in statuses),
    )
    yield CounterMetricFamily(
        "understudy_dead_letters", "Messages that nobody handled.", value=system.dead_letter_count
    )


def _by_actor(statuses: list[ActorStatus]) -> Iterable[Metric]:
    def family(kind: Any, name: str, words: str, value: Any) -> Metric:
        metric: Metric = kind(f"understudy_{name}", words, labels=["path", "host"])
        for status in statuses:
            metric.add_metric([status.path, status.host], value(status))  # type: ignore[attr-defined]
        return metric

    gauge, counter = GaugeMetricFamily, CounterMetricFamily
    yield family(gauge, "mailbox_depth", "User messages waiting.", lambda s: s.mailbox.depth)
    yield family(gauge, "mailbox_high_water", "The most that ever waited.", lambda s: s.mailbox.high_water)
    yield family(counter, "mailbox_accepted", "User messages taken in.", lambda s: s.mailbox.accepted)
    yield family(counter, "mailbox_displaced", "Lost to the policy.", lambda s: s.mailbox.displaced)
    yield family(counter, "actor_restarts", "Restarts.", lambda s: s.restarts)
    yield family(gauge, "actor_tasks", "Tasks and concurrent handlers running.", lambda s: s.tasks)
    yield family(gauge, "actor_answers_owed", "Answers that are deferred.", lambda s: s.owed)


def _by_handler(times: HandlerTimes, shown: set[str]) -> Iterable[Metric]:
    labels = ["path", "message"]
    calls = CounterMetricFamily("understudy_handled", "Handler calls that ended.", labels=labels)
    total = CounterMetricFamily("understudy_handler_seconds", "In handlers.", labels=labels, unit="seconds")
    longest = GaugeMetricFamily("understudy_handler_seconds_max", "The longest call.", labels=labels)
    for path in times.paths():
        if path in shown:
            for time in times.at(path):
                calls.add_metric([path, time.message], time.count)
                total.add_metric([path, time.message], time.seconds_total)
                longest.add_metric([path, time.message], time.seconds_max)
    yield from (calls, total, longest)
