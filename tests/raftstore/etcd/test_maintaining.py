"""Changes of the members, hashes and what else looks after a store, as its clients see them."""

from typing import Any

import pytest

from tests.raftstore.etcd.services import Served, play, refusal
from understudy.raftstore import mvcc
from understudy.raftstore.etcd.grpc import Code, RpcError
from understudy.raftstore.etcd.schema import messages
from understudy.raftstore.group import raft_group
from understudy.raftstore.member import Member

CLUSTER = "/etcdserverpb.Cluster/"
MAINTENANCE = "/etcdserverpb.Maintenance/"


def test_changes_of_the_members_wait_for_one_another() -> None:
    async def scenario(s: Served) -> None:
        answers: list[Any] = []

        async def change(path: str, request: Any) -> None:
            try:
                answers.append(await s.call(f"{CLUSTER}{path}", request))
            except RpcError as error:
                answers.append((error.code, error.message))

        async with s.world.nursery() as nursery:
            for number in range(3):
                update = messages.MemberUpdateRequest(ID=1 + number, peerURLs=[f"http://h:{number}"])
                nursery.start_soon(change, "MemberUpdate", update)
                learner = messages.MemberAddRequest(peerURLs=[f"http://new:{number}"], isLearner=True)
                nursery.start_soon(change, "MemberAdd", learner)
        refused = [each for each in answers if isinstance(each, tuple)]
        # One learner at a time is etcd's own rule; otherwise each has its turn.
        too_many = (Code.FAILED_PRECONDITION, "etcdserver: too many learner members in cluster")
        assert refused == [too_many, too_many]
        listed = await s.call(f"{CLUSTER}MemberList", messages.MemberListRequest())
        urls = [list(member.peerURLs) for member in listed.members]
        assert urls[:3] == [["http://h:0"], ["http://h:1"], ["http://h:2"]] and len(urls) == 4

    play(scenario, raft_group())


def at_leisure(monkeypatch: pytest.MonkeyPatch, slice_seconds: float) -> None:
    """Have members take so long for each few keys of what takes long: a store with very many of them."""

    async def work_on(self: Any) -> None:
        while True:
            await self._long_work.wait()
            while self._clients.go_on():
                await self.world.sleep(slice_seconds, "long work")
            self._work.set()

    monkeypatch.setattr(Member, "_work_on", work_on)
    monkeypatch.setattr(mvcc, "HASHED_AT_ONCE", 10)
    monkeypatch.setattr(mvcc, "PRUNED_AT_ONCE", 10)


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        (f"{MAINTENANCE}HashKV", messages.HashKVRequest()),
        (f"{MAINTENANCE}Hash", messages.HashRequest()),
        ("/etcdserverpb.KV/Compact", messages.CompactionRequest(revision=301, physical=True)),
    ],
)
def test_what_takes_long_is_waited_for_as_long_as_somebody_is_at_it(
    path: str, request_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(s: Served) -> None:
        for number in range(300):
            await s.put(b"%d" % number)
        began_s = s.world.monotonic()
        await s.channel.unary(path, request_, 1000.0)
        assert 10.0 < s.world.monotonic() - began_s < 60.0

    at_leisure(monkeypatch, slice_seconds=0.5)
    play(scenario, raft_group())


def test_nothing_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(s: Served) -> None:
        for number in range(300):
            await s.put(b"%d" % number)
        began_s = s.world.monotonic()
        error = await refusal(s.channel.unary(f"{MAINTENANCE}HashKV", messages.HashKVRequest(), 1000.0))
        assert (error.code, error.message) == (Code.UNAVAILABLE, "etcdserver: request timed out")
        assert 300.0 <= s.world.monotonic() - began_s < 302.0

    at_leisure(monkeypatch, slice_seconds=15.0)
    play(scenario, raft_group())


@pytest.mark.parametrize(
    ("action", "version", "code", "text"),
    [
        (0, "3.4.0", Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"),
        (0, "3.5", Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"),
        (1, "3.4", Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"),
        (1, "3", Code.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format"),
        (0, "", Code.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format"),
        (2, "", Code.FAILED_PRECONDITION, "etcdserver: no inflight downgrade job"),
        (9, "3.4", Code.UNKNOWN, "etcdserver: unknown method"),
    ],
)
def test_there_is_no_older_version_to_go_back_to(action: int, version: str, code: Code, text: str) -> None:
    async def scenario(s: Served) -> None:
        error = await refusal(
            s.call(f"{MAINTENANCE}Downgrade", messages.DowngradeRequest(action=action, version=version))
        )
        assert (error.code, error.message) == (code, text)

    play(scenario)
