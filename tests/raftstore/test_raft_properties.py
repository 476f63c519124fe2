"""Whatever the network and the disks do: Raft's safety properties hold, and a healed group makes progress.

`Loopback` checks on the way: one leader a term, leader completeness, one order of committed entries, terms
that never go back on a disk. Here: what happens, log matching, no stale reads, liveness after healing.
"""

from contextlib import suppress
from random import Random

import pytest
from attrs import define, field
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.raftstore.proof.budget import CAMPAIGN, seeds
from understudy.raftstore.confchange import Change, ConfigurationChange, Transition
from understudy.raftstore.loopback import Loopback
from understudy.raftstore.messages import ReadToken
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.ready import NotLeading, ProposalRefused

OPTIONS = RaftOptions(
    max_append_bytes=30, max_inflight_messages=3, max_inflight_bytes=60, snapshot_retry_ms=300
)
"""Small limits, so that they are met."""


@define
class Weather:
    """A group in bad conditions; `actions` says what can go wrong."""

    group: Loopback
    cut: frozenset[int] = frozenset()
    proposed: int = 0
    committed_at_read: dict[tuple[int, ReadToken], int] = field(factory=dict)

    def passes(self, sender: int, to: int) -> bool:
        return (sender in self.cut) == (to in self.cut)

    def pick(self, choice: int) -> int | None:
        running = self.group.running()
        return running[choice % len(running)] if running else None

    def act(self, action: str, choice: int) -> None:
        group = self.group
        member = self.pick(choice)
        choice //= 7  # Independent of who it is.
        network = group.network
        place = choice % len(network) if network else 0
        match action:
            case "deliver" if network:
                self.deliver(place, duplicate=False)
            case "deliver in order" if network:
                self.deliver(0, duplicate=False)
            case "duplicate" if network:
                self.deliver(place, duplicate=True)
            case "drop" if network:
                group.drop(place)
            case "process" if member:
                self.process(member)
            case "begin" if member:
                group.begin(member)
                self.check_reads(member)
            case "sync" if member:
                group.sync(member, 1 + choice % 2)
            case "time":
                due_ms = group.next_deadline_ms()
                if due_ms < float("inf"):
                    group.advance(max(group.now_ms, due_ms))
            case "propose" if member:
                try:
                    group.raft(member).propose(f"p{self.proposed}", 1 + choice % 20)
                    self.proposed += 1
                except (NotLeading, ProposalRefused):
                    pass
            case "read" if member:
                try:
                    token = group.raft(member).read_index()
                    self.committed_at_read[member, token] = group.last_committed()
                except NotLeading:
                    pass
            case "crash" if member:
                group.crash(member)
            case "crash before sync" | "crash after sync" if member:
                self.process(member, action.removeprefix("crash "))
            case "start":
                down = [m for m in group.members if group.nodes[m].raft is None]
                if down:
                    group.start(down[choice % len(down)])
            case "cut":
                self.cut = frozenset((group.members[choice % len(group.members)],))
            case "heal":
                self.cut = frozenset()
            case "compact" if member:
                group.compact(member, keep_entries=choice % 3)
            case "transfer" if member:
                with suppress(NotLeading, ProposalRefused):
                    group.raft(member).transfer_leadership(group.members[choice % len(group.members)])
            case "reconfigure" if member:
                self.reconfigure(member, choice)

    def reconfigure(self, member: int, choice: int) -> None:
        target = self.group.members[choice % len(self.group.members)]
        other = self.group.members[choice // 30 % len(self.group.members)]
        kind = ("voter", "learner", "remove")[choice % 3]
        changes = (Change(kind, target),) if choice % 2 else (Change(kind, target), Change("voter", other))
        transition: Transition = "auto"
        if choice % 5 == 0:
            changes = ()
        elif choice % 11 == 0:
            transition = "explicit"
        elif choice % 13 == 0:
            transition = "implicit"
        with suppress(NotLeading, ProposalRefused):
            self.group.raft(member).propose_configuration(ConfigurationChange(changes, transition))

    def process(self, member: int, crash: str = "") -> None:
        self.group.process(member, crash)
        self.check_reads(member)

    def deliver(self, place: int, duplicate: bool) -> None:
        message = self.group.network[place]
        if self.passes(message.sender, message.to):
            self.group.deliver(place, duplicate)
        elif not duplicate:
            self.group.drop(place)

    def check_reads(self, member: int) -> None:
        """A read sees everything that was committed before it was asked for (§8)."""
        for token, index in self.group.nodes[member].reads.items():
            asked = self.committed_at_read.get((member, token))
            if asked is not None and index is not None:
                assert index >= asked, f"member {member} reads at {index} what was {asked} before"

    def heal(self) -> None:
        """No more faults: everybody runs, and everything arrives."""
        group = self.group
        self.cut = frozenset()
        for member in group.members:
            if group.nodes[member].raft is None:
                group.start(member)
        group.run(10_000)
        leader = group.leader()
        assert leader, "nobody leads a healed group"
        index = group.raft(leader).propose("healed", 1)
        group.run(1_000)
        group.check_logs()
        in_it = group.raft(leader).configuration.members
        for member in in_it:
            assert group.raft(member).log.applied_index >= index, (member, index)
            assert group.nodes[member].applied == group.nodes[leader].applied
        assert "healed" in group.nodes[leader].applied


ACTIONS = {
    "deliver": 60,
    "deliver in order": 60,
    "process": 80,
    "begin": 30,
    "sync": 30,
    "time": 2,
    "propose": 10,
    "read": 4,
    "drop": 4,
    "duplicate": 4,
    "crash": 1,
    "crash before sync": 1,
    "crash after sync": 1,
    "start": 8,
    "cut": 1,
    "heal": 3,
    "compact": 2,
    "transfer": 1,
}

LEASE_ACTIONS = {
    "deliver in order": 200,
    "process": 150,
    "time": 15,
    "propose": 20,
    "read": 40,
    "cut": 2,
    "heal": 1,
    "transfer": 1,
    "crash": 1,
    "start": 20,
}
"""Long cuts in good weather: a leader keeps its lease for as long as it can."""

STEPS = st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 10_000)), max_size=150)


@settings(max_examples=60 * CAMPAIGN, deadline=None)
@given(st.sampled_from((1, 2, 3, 5)), STEPS)
@example(1, [("time", 0), ("process", 0), ("propose", 0), ("crash before sync", 0)])
def test_raft_is_safe_and_lives_on(size: int, steps: list[tuple[str, int]]) -> None:
    weather = Weather(Loopback(tuple(range(1, size + 1)), Random(0), OPTIONS))
    for action, choice in steps:
        weather.act(action, choice)
    weather.group.check_logs()
    weather.heal()


def storm(
    seed: int,
    steps: int,
    weights: dict[str, int],
    size: int,
    options: RaftOptions,
    clock_rates: tuple[float, ...] = (),
) -> Weather:
    random = Random(seed)
    weather = Weather(Loopback(tuple(range(1, size + 1)), random, options))
    for node, rate in zip(weather.group.nodes.values(), clock_rates, strict=False):
        node.clock_rate = rate
    actions, chances = list(weights), list(weights.values())
    for number, action in enumerate(random.choices(actions, chances, k=steps)):
        weather.act(action, random.randrange(10_000))
        if number % 500 == 0:
            weather.group.check_logs()
    weather.heal()
    return weather


@pytest.mark.parametrize("seed", seeds(12))
def test_long_storms(seed: int) -> None:
    weather = storm(seed, 6_000, ACTIONS, 3 + 2 * (seed % 2), OPTIONS)
    if seed < 12:  # Some storms of a campaign are lulls.
        assert len(weather.group.committed) > 10
        assert len(weather.group.leaders) > 1


@pytest.mark.parametrize("seed", seeds(6))
def test_long_storms_without_pre_vote_and_check_quorum(seed: int) -> None:
    options = RaftOptions(pre_vote=False, check_quorum=False, max_append_bytes=30, max_inflight_messages=3)
    storm(seed, 3_000, ACTIONS, 3, options)


@pytest.mark.parametrize("seed", seeds(8))
def test_long_storms_with_lease_reads_and_clocks_within_their_bound(seed: int) -> None:
    """No read is stale while no clock goes more than twice as fast as another."""
    options = RaftOptions(lease_read_clock_drift=2.0, max_append_bytes=30, max_inflight_messages=3)
    weather = storm(seed, 5_000, LEASE_ACTIONS, 3, options, clock_rates=(0.7, 1.0, 1.39))
    assert len(weather.group.leaders) > 1 or seed >= 8


def test_lease_reads_are_stale_beyond_the_bound() -> None:
    """The storm above can tell: with clocks that break the bound, it finds a stale read."""
    options = RaftOptions(lease_read_clock_drift=1.0, max_append_bytes=30, max_inflight_messages=3)
    with pytest.raises(AssertionError, match="reads at"):
        for seed in range(60):
            storm(seed, 5_000, LEASE_ACTIONS, 3, options, clock_rates=(0.35, 1.0, 1.0))


@pytest.mark.parametrize("seed", seeds(12))
def test_long_storms_with_changing_members(seed: int) -> None:
    weights = {**ACTIONS, "reconfigure": 5}
    weather = storm(seed, 6_000, weights, 5, OPTIONS)
    changed = any(entry.kind == "configuration" for entry in weather.group.committed.values())
    assert changed or seed >= 12


@pytest.mark.parametrize("seed", seeds(4))
def test_long_storms_with_changing_members_on_slow_disks(seed: int) -> None:
    storm(seed, 5_000, {**ACTIONS, "begin": 80, "sync": 20, "process": 20, "reconfigure": 4}, 5, OPTIONS)


@pytest.mark.parametrize("seed", seeds(4))
def test_long_storms_with_lease_reads_and_changing_members(seed: int) -> None:
    """A lease that one configuration promised holds in the next."""
    options = RaftOptions(lease_read_clock_drift=2.0, max_append_bytes=30, max_inflight_messages=3)
    weights = {**LEASE_ACTIONS, "reconfigure": 5, "duplicate": 5, "drop": 3}
    storm(seed, 6_000, weights, 4, options, clock_rates=(0.7, 1.0, 1.39, 1.2))
