"""Strangers at the door: what they say, or do not say, costs them their connection and a line in the log."""

import logging
from contextlib import suppress
from random import Random

import pytest
from attrs import evolve

from tests.actors.remote.nodes import Add, Pair, Worker, Working, over_tcp, simulated, until
from understudy.actors import ActorSystem
from understudy.actors.remote import ConnectFailed, Remote
from understudy.actors.remote.framing import PREAMBLE
from understudy.actors.remote.link import LinkLost
from understudy.actors.remote.protocol import VERSIONS, Hello, Identity, Kind, pack
from understudy.mailbox import encode

HELLO = Hello(VERSIONS, Identity("stranger", "s1"), False, 1 << 20, 10, 1.0)
POLITE = PREAMBLE + HELLO.frame() + pack(Kind.BEGIN, False) + pack(Kind.ASK, 1, "/worker", "", encode(Add(1)))


async def only_alpha(nodes: Pair) -> None:
    """Return once nobody else is connected, and nobody else has noticed anything."""
    await until(nodes.world, lambda: len(nodes.b.node._connections) == 1)
    assert await nodes.a.peer.ref("/worker", Working).ask(Add(1)) >= 1
    assert nodes.a.peer.connections == 1


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was written about connections; nothing of it is a fault of ours."""
    records = [record for record in caplog.records if record.name == "understudy.remote"]
    assert all(record.levelno == logging.WARNING for record in records)
    return [record.getMessage() for record in records]


@pytest.mark.parametrize("run", [simulated, over_tcp])
def test_a_hundred_connections_that_never_speak_are_closed_in_time(
    run: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        nodes.b.node.limits = evolve(nodes.b.node.limits, handshake_seconds_max=0.3)
        began = nodes.world.monotonic()
        for _ in range(100):
            await nodes.stranger()
        assert await nodes.a.peer.ref("/worker", Working).ask(Add(1)) == 1, "nobody waits for them"
        # Where 100 calls take longer than 0.3 s, the first are gone before the last have come.
        await until(nodes.world, lambda: len(lines(caplog)) == 100)
        await only_alpha(nodes)
        if nodes.world.simulated:
            assert nodes.world.monotonic() - began < 0.4, "in time: real seconds are the machine's"

    with caplog.at_level(logging.WARNING, "understudy.remote"):
        run(story)  # type: ignore[operator]
    assert len(lines(caplog)) == 100
    assert all(
        "does not say who it is is closed: no handshake within 0.3 s" in line for line in lines(caplog)
    )


def test_a_greeting_a_byte_at_a_time_does_not_win_time(caplog: pytest.LogCaptureFixture) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        link = await nodes.stranger()
        await until(nodes.world, lambda: len(nodes.b.node._connections) == 2)
        sent = 0
        while len(nodes.b.node._connections) == 2:
            await link.send(POLITE[sent : sent + 1])
            sent += 1
            await nodes.world.sleep(0.1)
        assert sent < 20
        await only_alpha(nodes)

    with caplog.at_level(logging.WARNING, "understudy.remote"):
        simulated(story)
    (line,) = lines(caplog)
    assert "no handshake within 1 s" in line


@pytest.mark.parametrize("versions", [(VERSIONS[1] + 1, VERSIONS[1] + 9), (0, VERSIONS[0] - 1), (5, 2)])
def test_another_version_is_told_so(versions: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        link = await nodes.stranger()
        await link.send(PREAMBLE + Hello(versions, HELLO.identity, False, 1 << 20, 10, 1.0).frame())
        heard = b""
        while data := await link.receive():
            heard += data
        assert b"version" in heard, "the goodbye says why"
        await only_alpha(nodes)

    with caplog.at_level(logging.WARNING, "understudy.remote"):
        simulated(story)
    (line,) = lines(caplog)
    assert f"it speaks versions {versions}" in line


@pytest.mark.parametrize("run", [simulated, over_tcp])
def test_whatever_is_cut_off_or_changed_harms_nobody(run: object, caplog: pytest.LogCaptureFixture) -> None:
    random = Random(7)
    said: list[bytes] = [POLITE[:end] for end in range(0, len(POLITE), 3)]
    for _ in range(80):
        changed = bytearray(POLITE)
        for _ in range(random.randint(1, 3)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        said.append(bytes(changed))

    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        for data in said:
            link = await nodes.stranger()
            with suppress(LinkLost):  # closed after the first half already
                await link.send(data)
            link.close()
        await only_alpha(nodes)

    with caplog.at_level(logging.WARNING, "understudy.remote"):
        run(story)  # type: ignore[operator]
    assert len([line for line in lines(caplog) if "outside the protocol" in line]) <= len(said)


def test_frames_are_refused_by_their_length_before_they_come() -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        before = [PREAMBLE, PREAMBLE + HELLO.frame() + pack(Kind.BEGIN, False)]
        for start in before:
            link = await nodes.stranger()
            await link.send(start + b"\xff\xff\xff\xff")
            await only_alpha(nodes)
            link.close()

    simulated(story)


def test_a_node_has_so_many_peers_and_as_many_strangers_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        nodes.b.node.limits = evolve(nodes.b.node.limits, peers_max=1)
        assert nodes.network is not None
        async with (
            ActorSystem.open(nodes.world) as system,
            Remote.listen(system, "sim:c", name="gamma", transport=nodes.network.at("c")) as gamma,
        ):
            with pytest.raises(ConnectFailed, match="there are 1 peers"):
                await gamma.connect(nodes.b.node.address)
        await only_alpha(nodes)
        await nodes.stranger()
        await until(nodes.world, lambda: len(nodes.b.node._connections) == 2)
        one_more = await nodes.stranger()
        with suppress(LinkLost):
            assert await one_more.receive() == b"", "closed before it says anything"
        await only_alpha(nodes)

    with caplog.at_level(logging.WARNING, "understudy.remote"):
        simulated(story)
    assert any("over 2 connections: another one is closed" in line for line in lines(caplog))
