"""The recorded quorum and configuration-change cases, value by value and error by error."""

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from understudy.raftstore import confchange, quorum
from understudy.raftstore.confchange import Change, ChangeKind, ChangeRefused
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.leadership import reconcile
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.progress import Progress


@frozen
class Case:
    where: str
    command: str
    arguments: dict[str, str]
    input: str
    expected: str


ARGUMENT = re.compile(r"(\w+)=(\([^)]*\)|\w+)")


def files(folder: Path, count: int) -> list[Path]:
    """All that is there, and it is as many as are known."""
    found = sorted(folder.iterdir())
    assert len(found) == count and all(file.suffix == ".txt" for file in found), found
    return found


def cases(file: Path) -> list[Case]:
    """All cases of a file; whatever looks like one is one."""
    text = file.read_text()
    found = list(blocks(file.name, text.splitlines()))
    assert len(found) == text.splitlines().count("----") > 0, file
    return found


def blocks(name: str, lines: list[str]) -> Iterator[Case]:
    """A block is a command line, its input, `----`, and the expected output up to an empty line."""
    position = 0
    while position < len(lines):
        line = lines[position]
        if not line.strip() or line.startswith("#"):
            position += 1
            continue
        where = f"{name}:{position + 1}"
        command, rest = (*line.split(maxsplit=1), "")[:2]
        arguments = dict(ARGUMENT.findall(rest))
        assert not ARGUMENT.sub("", rest).strip(), (where, rest)
        position += 1
        start = position
        while lines[position] != "----":
            position += 1
        text = "\n".join(lines[start:position])
        position += 1
        start = position
        while position < len(lines) and lines[position].strip():
            position += 1
        yield Case(where, command, arguments, text, "\n".join(lines[start:position]))


def items(text: str) -> list[str]:
    return [item.strip() for item in text.strip("()").split(",") if item.strip()]


def ids(text: str) -> tuple[int, ...]:
    return tuple(int(item) for item in items(text)) if text != "zero" else ()


def describe(voters: tuple[int, ...], acknowledged: dict[int, int]) -> str:
    """Each voter's index with a bar that shows how many are behind it."""
    if not voters:
        return "<empty majority quorum>"
    indexes = {voter: acknowledged.get(voter, 0) for voter in voters}
    bars = {voter: sum(other < index for other in indexes.values()) for voter, index in indexes.items()}
    width = len(voters)
    rows = [" " * width + "    idx"]
    for voter in sorted(voters):
        known = voter in acknowledged
        bar = "x" * bars[voter] + ">" + " " * (width - bars[voter]) if known else "?" + " " * width
        rows.append(f"{bar} {indexes[voter]:5d}    (id={voter})")
    return "\n".join(rows) + "\n"


def run_quorum(case: Case) -> str:
    given_as = {"vote": "votes", "committed": "idx"}[case.command]
    assert not case.input and {*case.arguments} <= {"cfg", "cfgj", given_as}, case
    voters, outgoing = ids(case.arguments.get("cfg", "")), ids(case.arguments.get("cfgj", ""))
    order = list(dict.fromkeys((*voters, *outgoing)))
    configuration = Configuration(voters=tuple(sorted(voters)), outgoing=tuple(sorted(outgoing)))
    given = list(zip(order, items(case.arguments.get(given_as, "")), strict=True))
    if case.command == "vote":
        assert {vote for _, vote in given} <= {"y", "n", "_"}, case
        votes = {voter: vote == "y" for voter, vote in given if vote != "_"}
        return quorum.vote(configuration, votes).value
    acknowledged = {voter: int(index) for voter, index in given if index not in ("_", "0")}
    index = quorum.committed(configuration, acknowledged)
    shown = "∞" if index == quorum.EVERYTHING else str(index)
    return describe(tuple(order), acknowledged) + shown


def test_quorums(facts_dir: Path) -> None:
    for file in files(facts_dir / "raft" / "quorum", 4):
        for case in cases(file):
            assert run_quorum(case) == case.expected, case.where


KINDS: dict[str, ChangeKind] = {"v": "voter", "l": "learner", "r": "remove", "u": "update"}


def run_change(case: Case, configuration: Configuration) -> Configuration:
    changes = tuple(Change(KINDS[word[0]], int(word[1:])) for word in case.input.split())
    match case.command:
        case "simple":
            return confchange.simple(configuration, changes)
        case "enter-joint":
            assert {*case.arguments} <= {"autoleave"}, case
            auto_leave = case.arguments.get("autoleave") == "true"
            return confchange.enter_joint(configuration, changes, auto_leave)
        case "leave-joint":
            return confchange.leave_joint(configuration)
    raise AssertionError(case)


def render(configuration: Configuration, progress: dict[int, Progress]) -> str:
    rows = [str(configuration)]
    for member, known in sorted(progress.items()):
        learner = " learner" if member in configuration.learners else ""
        rows.append(f"{member}: {known.state.value} match={known.match} next={known.next}{learner}")
    return "\n".join(rows)


def test_configuration_changes(facts_dir: Path) -> None:
    for file in files(facts_dir / "raft" / "confchange", 9):
        configuration, progress = Configuration(), dict[int, Progress]()
        for last_index, case in enumerate(cases(file)):
            try:
                configuration = run_change(case, configuration)
                progress = reconcile(progress, configuration, last_index, RaftOptions())
                result = render(configuration, progress)
            except ChangeRefused as refused:
                result = str(refused)
            assert result == case.expected, case.where
