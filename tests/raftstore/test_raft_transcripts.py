"""Transcripts: what a Raft group says and does in the scenarios that matter, as text files to be read.

A file is a series of blocks: a command, `----`, what came of it, an empty line. `UNDERSTUDY_REWRITE=1` writes
what came of it into the files, to be looked at before it is committed.

Commands:
    group N [OPTION=VALUE ...]   N members, nothing said yet
    run MS | settle              let time pass without a fault; or no time, until nothing moves
    process M | deliver N        one member's `Ready`; one message on its way
    drop M>N | drop all          what is on its way between two members, or at all, is lost
    advance MS | next            time passes, to the next timer, and messages stay where they are
    cut M N ... | heal           nothing passes between these members and the others; until healed
    stop M | start M             a member goes; and comes back on what its disk has
    propose M DATA | read M      at a member
    compact M KEEP | transfer M N
    join M | change M [MODE] v4 l5 r3   a new member starts; M proposes voters, learners, removals
    clock M RATE                 how fast a member's clock goes, from the start on
    status | log | network | reads M | config    what is, without changing anything
    progress M | waiting M       how a leader sends to each of the others; what it has not committed
"""

import os
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest
from attrs import define, field

from understudy.raftstore.confchange import Change, ChangeKind, ConfigurationChange, Transition
from understudy.raftstore.loopback import Loopback
from understudy.raftstore.messages import (
    AppendReply,
    AppendRequest,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadIndexReply,
    SnapshotRequest,
    VoteReply,
    VoteRequest,
)
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.progress import ProgressState
from understudy.raftstore.ready import NotLeading, ProposalRefused

KINDS: dict[str, ChangeKind] = {"v": "voter", "l": "learner", "r": "remove"}
FILES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


def number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)


def what(entry: Entry) -> str:
    change = entry.data
    if not isinstance(change, ConfigurationChange):
        return str(entry.data)
    if change.leaves_joint:
        return "leave"
    return f"{change.transition}(" + " ".join(f"{c.kind} {c.member}" for c in change.changes) + ")"


def place(entry: Entry) -> str:
    return f"{entry.index}/{entry.term}:{what(entry)}"


def show(message: Message) -> str:
    head = f"{message.sender}>{message.to} term {message.term} "
    match message:
        case VoteRequest():
            kind = "pre-vote?" if message.pre else "vote?"
            return head + f"{kind} log ends at {message.last_index} (term {message.last_term})"
        case VoteReply():
            return head + ("pre-vote " if message.pre else "vote ") + ("yes" if message.granted else "no")
        case AppendRequest():
            entries = " ".join(f"{place(e)}" for e in message.entries) or "nothing"
            after = f"after {message.previous_index}/{message.previous_term}"
            return head + f"append {after}: {entries}; committed {message.commit_index}"
        case AppendReply(rejected=True):
            hint = f"maybe at {message.hint_index}/{message.hint_term}"
            return head + f"no match at {message.index}, {hint}"
        case AppendReply():
            return head + f"match up to {message.index}"
        case Heartbeat():
            return head + f"heartbeat committed {message.commit_index} round {message.read_round}"
        case HeartbeatReply():
            return head + f"heard round {message.read_round}"
        case SnapshotRequest():
            return head + f"snapshot up to {message.snapshot.index}"
        case ReadIndexReply():
            return head + f"read index {message.index}"
    return head + type(message).__name__


@define
class Stage:
    """Carries out the commands of one file."""

    group: Loopback = field(factory=lambda: Loopback((1,), Random(0)))
    island: set[int] = field(factory=set)
    said: list[str] = field(factory=list)

    def filter(self) -> None:
        """What would pass a cut is lost."""
        network = self.group.network
        network[:] = [m for m in network if (m.sender in self.island) == (m.to in self.island)]

    def settle(self) -> None:
        group, moved = self.group, True
        while moved:
            moved = False
            for member in group.running():
                moved = not group.process(member).empty or moved
            self.filter()
            while group.network:
                group.deliver(0)
                moved = True

    def run(self, duration_ms: float) -> None:
        group = self.group
        end_ms = group.now_ms + duration_ms
        self.settle()
        while (due_ms := group.next_deadline_ms()) <= end_ms:
            group.advance(max(due_ms, group.now_ms))
            self.settle()
        group.advance(end_ms)
        self.settle()

    def do(self, line: str) -> str:
        command, *words = line.split()
        group = self.group
        match command, words:
            case "group", [size, *options]:
                changes = dict(option.split("=") for option in options)
                values = {k: number(v) if v not in ("yes", "no") else v == "yes" for k, v in changes.items()}
                members = tuple(range(1, int(size) + 1))
                self.group = Loopback(members, Random(1), RaftOptions(**values))  # type: ignore[arg-type]
                return "ok"
            case "run", [ms]:
                self.run(float(ms))
                return self.status()
            case "settle", []:
                self.settle()
                return self.status()
            case "advance", [ms]:
                group.advance(group.now_ms + float(ms))
                return self.status()
            case "next", []:
                group.advance(group.next_deadline_ms())
                return self.status()
            case "process", [member]:
                before = len(group.network)
                ready = group.process(int(member))
                lines = [show(message) for message in group.network[before:]]
                lines += [f"applies {e.index}/{e.term}: {what(e)}" for e in ready.committed]
                return "\n".join(lines) or "nothing"
            case "deliver", [position]:
                return show(group.deliver(int(position) - 1))
            case "drop", ["all"]:
                dropped, group.network = group.network, []
                return "\n".join(map(show, dropped)) or "nothing"
            case "drop", [link]:
                sender, to = map(int, link.split(">"))
                dropped = [m for m in group.network if (m.sender, m.to) == (sender, to)]
                group.network = [m for m in group.network if (m.sender, m.to) != (sender, to)]
                return "\n".join(map(show, dropped)) or "nothing"
            case "cut", members:
                self.island = set(map(int, members))
                self.filter()
                return "ok"
            case "heal", []:
                self.island = set()
                return "ok"
            case "stop", [member]:
                group.crash(int(member))
                return "ok"
            case "start", [member]:
                group.start(int(member))
                return "ok"
            case "propose", [member, data]:
                try:
                    return f"entry {group.raft(int(member)).propose(data, len(data))}"
                except NotLeading as error:
                    return f"not the leader, which is {error.leader}"
                except ProposalRefused as error:
                    return error.reason
            case "read", [member]:
                try:
                    return f"read {group.raft(int(member)).read_index().number}"
                except NotLeading:
                    return "nobody leads"
            case "reads", [member]:
                outcomes = group.nodes[int(member)].reads.items()
                rows = [f"read {t.number}: " + ("lost" if i is None else f"at {i}") for t, i in outcomes]
                return "\n".join(rows) or "none"
            case "compact", [member, keep]:
                return f"snapshot up to {group.compact(int(member), int(keep)).index}"
            case "transfer", [member, to]:
                group.raft(int(member)).transfer_leadership(int(to))
                return "ok"
            case "join", [member]:
                group.join(int(member))
                return "ok"
            case "clock", [member, rate]:
                assert group.now_ms == 0, "a clock's rate is for its whole life"
                group.nodes[int(member)].clock_rate = float(rate)
                return "ok"
            case "change", [member, *words]:
                return self.change(int(member), words)
            case "config", []:
                return "\n".join(
                    f"{member} {node.raft.configuration}" if node.raft is not None else f"{member} down"
                    for member, node in group.nodes.items()
                )
            case "progress", [member]:
                return self.progress(int(member))
            case "waiting", [member]:
                leadership = group.raft(int(member)).leadership
                assert leadership is not None, f"member {member} does not lead"
                return f"{leadership.uncommitted_bytes} bytes"
            case "status", []:
                return self.status()
            case "network", []:
                return "\n".join(map(show, group.network)) or "nothing"
            case "log", []:
                return self.logs()
        raise AssertionError(f"unknown command: {line}")

    def change(self, member: int, words: list[str]) -> str:
        transition: Transition = "auto"
        if words and words[0] in ("auto", "implicit", "explicit"):
            transition = words.pop(0)  # type: ignore[assignment]
        changes = tuple(Change(KINDS[word[0]], int(word[1:])) for word in words)
        try:
            index = self.group.raft(member).propose_configuration(ConfigurationChange(changes, transition))
        except NotLeading as error:
            return f"not the leader, which is {error.leader}"
        except ProposalRefused as error:
            return error.reason
        return f"entry {index}"

    def progress(self, leader: int) -> str:
        leadership = self.group.raft(leader).leadership
        assert leadership is not None, f"member {leader} does not lead"
        rows = []
        for member, progress in leadership.progress.items():
            if member == leader:
                continue
            row = f"{member} {progress.state.name.lower()} match {progress.match} next {progress.next}"
            if progress.state is ProgressState.PROBE and progress.paused:
                row += ", waits for an answer"
            if progress.inflight.sent:
                full = ", full" if progress.inflight.full else ""
                row += f", {len(progress.inflight.sent)} messages under way{full}"
            if progress.state is ProgressState.SNAPSHOT:
                row += f", snapshot up to {progress.pending_snapshot} under way"
            rows.append(row)
        return "\n".join(rows)

    def status(self) -> str:
        rows = []
        for member, node in self.group.nodes.items():
            raft = node.raft
            if raft is None:
                rows.append(f"{member} down")
                continue
            leader = f" of {raft.leader}" if raft.leader not in (0, member) else ""
            rows.append(
                f"{member} {raft.role.value}{leader} term {raft.term} "
                f"log {raft.log.last_index} committed {raft.log.commit_index}"
            )
        return "\n".join(rows)

    def logs(self) -> str:
        rows = []
        for member, node in self.group.nodes.items():
            log = None if node.raft is None else node.raft.log
            if log is None:
                rows.append(f"{member} down")
                continue
            head = f"[..{log.floor_index}] " if log.floor_index else ""
            entries = " ".join(f"{place(e)}" for e in log.entries)
            rows.append(f"{member} {head}{entries}".rstrip())
        self.group.check_logs()
        return "\n".join(rows)


def script(text: str) -> list[str]:
    """The lines of a file without what came of its commands."""
    lines, said = [], False
    for line in text.splitlines():
        said = bool(line.strip()) and (said or line == "----")
        if not said:
            lines.append(line)
    return lines


def is_command(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def told(lines: list[str], outcomes: Iterable[str]) -> str:
    """The file with what its commands say now, in their order."""
    out, saying = [], iter(outcomes)
    for line in lines:
        out.append(line)
        if is_command(line):
            out += ["----", next(saying)]
    return "\n".join(out) + "\n"


def compare(file: Path, now: str) -> None:
    if os.environ.get("UNDERSTUDY_REWRITE"):
        file.write_text(now)
    else:
        assert now.splitlines() == file.read_text().splitlines()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_transcript(file: Path) -> None:
    lines, stage = script(file.read_text()), Stage()
    compare(file, told(lines, map(stage.do, filter(is_command, lines))))
