"""Transcripts of members: what they say to one another around the core, as text files to be read.

As `test_raft_transcripts.py`, whose files show the core alone; here each member is an actor behind a store of
its own, on a simulated host, and what one tells another is written down: requests that are forwarded, what
came of them, the log's entries on their way, snapshots in chunks. `UNDERSTUDY_REWRITE=1` rewrites the files.

Commands; each says what was told since the last one, and then what came of it:
    nodes N [OPTION=VALUE ...]  N members with these `MemberOptions`; member 1 leads
    show KIND ...               what is written down: forward, outcome, entries, match, chunk, wanted
    put M KEY [BYTES]           a client of the store at M writes, and waits for the answer
    puts M KEY COUNT            the same, so many times
    read M KEY                  a client reads
    wait SECONDS
    cut M ... | heal            nothing passes between these and the others; until healed
    lose A>B KIND               the next message of that kind from A to B is lost
    log                         each member's
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import define, field

from tests.raftstore.nodes import Bench
from tests.raftstore.test_raft_transcripts import compare, is_command, script, told
from understudy.actors import ActorSystem, Ref, SimWorld
from understudy.mailbox import Message
from understudy.raftstore.founding import LocalPeers
from understudy.raftstore.group import raft_node
from understudy.raftstore.membership import (
    Forward,
    ForwardOutcomes,
    Membership,
    Packet,
    SnapshotChunk,
    SnapshotWanted,
)
from understudy.raftstore.messages import AppendReply, AppendRequest, Entry
from understudy.raftstore.options import GroupOptions, MemberOptions
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.sessions import Command
from understudy.raftstore.storage import Put, Range, StorageError

FILES = sorted((Path(__file__).parent / "transcripts" / "members").glob("*.txt"))


def what(request: object) -> str:
    match request:
        case Command():
            return what(request.request)
        case Put():
            size = f" ({len(request.value)} bytes)" if len(request.value) > 100 else ""
            return f"put {request.key.decode()}{size}"
    return "nothing" if request is None else type(request).__name__


def entries(items: tuple[Entry, ...]) -> str:
    return " ".join(f"{each.index}/{each.term}:{what(each.data)}" for each in items)


def show(message: Message[Membership]) -> list[tuple[str, str]]:
    """(kind, what is to be read) for what is worth it."""
    match message:
        case Forward():
            requests = ", ".join(f"{each.number}: {what(each.request)}" for each in message.submissions)
            return [("forward", f"forwards {requests}")]
        case ForwardOutcomes():
            outcomes = ", ".join(f"{o.number}: {o.answer.refusal or 'answered'}" for o in message.outcomes)
            return [("outcome", f"of what was forwarded, {outcomes}")]
        case SnapshotChunk(transfer=transfer):
            last = ", the last" if message.last else ""
            size = f"{len(message.data)} bytes{last}"
            return [("chunk", f"snapshot up to {transfer.index}, chunk {message.number}: {size}")]
        case SnapshotWanted(transfer=transfer):
            return [("wanted", f"snapshot up to {transfer.index}, wants chunk {message.number}")]
        case Packet():
            told = []
            for each in message.messages:
                if isinstance(each, AppendRequest) and each.entries:
                    told.append(("entries", f"append {entries(each.entries)}; committed {each.commit_index}"))
                elif isinstance(each, AppendReply):
                    text = f"no match at {each.index}" if each.rejected else f"match up to {each.index}"
                    told.append(("match", text))
            return told
    return []


@define(eq=False)
class Tap:
    """The way from one member to another, in place of a ref."""

    ref: Ref[Membership]
    heard: Callable[[Message[Membership]], bool]

    def tell(self, message: Message[Membership]) -> None:
        if self.heard(message):
            self.ref.tell(message)


class Tapped(LocalPeers):
    """What one member reaches the others by."""

    def __init__(self, sender: int, stage: "Stage") -> None:
        self.refs = stage.bench.peers.refs
        self.sender = sender
        self.stage = stage
        self.taps: dict[int, Tap] = {}

    def get(self, member: int) -> Ref[Membership] | None:
        ref = self.refs.get(member)
        if ref is None or member == self.sender:
            return ref
        tap = self.taps.get(member)
        if tap is None or tap.ref != ref:
            link = f"{self.sender}>{member}"
            tap = self.taps[member] = Tap(ref, lambda message: self.stage.heard(link, message))
        return tap  # type: ignore[return-value]  # It is only told things.


@define
class Tapping(Bench):
    stage: "Stage | None" = None

    def start(self, member: int, state: PersistentState) -> None:
        assert self.stage is not None
        peers = Tapped(member, self.stage)
        factory = raft_node(member, peers, self.logs.log, state, options=self.options)
        self.stores[member] = self.system.spawn(factory, f"etcd-{member}", host=f"etcd-{member}")


@define
class Stage:
    """Carries out the commands of one file."""

    world: SimWorld
    system: ActorSystem
    bench: Bench = field(init=False)
    kinds: set[str] = field(factory=set)
    lost: list[tuple[str, str]] = field(factory=list)
    """(from and to, kind) of what is to be lost next."""
    said: list[str] = field(factory=list)

    def heard(self, link: str, message: Message[Membership]) -> bool:
        arrives = True
        for kind, text in show(message):
            if (link, kind) in self.lost:
                self.lost.remove((link, kind))
                arrives, text = False, text + " (lost)"
            if kind in self.kinds:
                self.said.append(f"{link} {text}")
        return arrives

    async def do(self, line: str) -> str:
        outcome = await self.carry_out(*line.split())
        said, self.said = self.said, []
        return "\n".join([*said, outcome])

    async def carry_out(self, command: str, *words: str) -> str:
        world = self.world
        match command, words:
            case "nodes", (size, *options):
                values = {k: int(v) for k, v in (option.split("=") for option in options)}
                members = MemberOptions(**values)  # type: ignore[arg-type]
                self.bench = Tapping(world, self.system, GroupOptions(member=members), stage=self)
                self.bench.found(int(size))
                await world.sleep(1.0)
                return f"member {await self.bench.leader()} leads"
            case "show", kinds:
                self.kinds = {*kinds}
                return "ok"
            case "put", (member, key, *size):
                value = bytes(int(size[0])) if size else b"x"
                return await self.ask(int(member), Put(key.encode(), value))
            case "puts", (member, key, count):
                answers = [await self.ask(int(member), Put(key.encode(), b"x")) for _ in range(int(count))]
                return answers[-1]
            case "read", (member, key):
                return await self.ask(int(member), Range(key.encode()))
            case "wait", (seconds,):
                await world.sleep(float(seconds))
                return "ok"
            case "cut", members:
                island = [f"etcd-{member}" for member in members]
                rest = [f"etcd-{member}" for member in self.bench.stores if str(member) not in members]
                world.network.partition(island, rest)
                return "ok"
            case "heal", ():
                world.network.heal()
                return "ok"
            case "lose", (link, kind):
                self.lost.append((link, kind))
                return "ok"
            case "log", ():
                return self.logs()
        raise AssertionError(f"unknown command: {command} {words}")

    async def ask(self, member: int, request: Put | Range) -> str:
        began_s = self.world.monotonic()
        try:
            reply = await self.bench.stores[member].ask(request, 10.0)
        except StorageError as error:
            outcome = str(error)
        else:
            if isinstance(request, Range):
                outcome = f"{reply.count} found at revision {reply.revision}"
            else:
                outcome = f"revision {reply.revision}"
        took_s = self.world.monotonic() - began_s
        return outcome + (f", after {took_s:.1f} s" if took_s >= 0.1 else "")

    def logs(self) -> str:
        rows = []
        for member in self.bench.stores:
            log = self.bench.member(member).raft.log
            head = f"[..{log.floor_index}] " if log.floor_index > 1 else ""
            rows.append(f"{member} {head}{entries(tuple(log.entries))}".rstrip())
        return "\n".join(rows)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_member_transcript(file: Path) -> None:
    lines = script(file.read_text())

    async def main(world: SimWorld) -> list[str]:
        async with ActorSystem.open(world) as system:
            stage = Stage(world, system)
            return [await stage.do(line) for line in filter(is_command, lines)]

    compare(file, told(lines, SimWorld(1).run(main)))
