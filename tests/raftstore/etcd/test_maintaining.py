"""Changes of the members, hashes and what else looks after a store, as its clients see them."""

from typing import Any

import pytest

from tests.raftstore.etcd.services import Served, play, refusal
from understudy.raftstore.etcd.grpc import Code, RpcError
from understudy.raftstore.etcd.schema import messages
from understudy.raftstore.group import raft_group

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
