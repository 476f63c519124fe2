"""What clients send that no message of the contract can say."""

from typing import Any

import pytest

from tests.raftstore.etcd.services import Served, play, refusal
from understudy.raftstore.etcd.grpc import Code
from understudy.raftstore.etcd.schema import messages

COMPARE = messages.Compare


@pytest.mark.parametrize("number", [-1, -2, 5, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("KV/Range", lambda number: messages.RangeRequest(key=b"k", sort_order=number)),
        ("KV/Range", lambda number: messages.RangeRequest(key=b"k", sort_target=number)),
        ("KV/Txn", lambda number: messages.TxnRequest(compare=[COMPARE(key=b"k", target=number)])),
        ("KV/Txn", lambda number: messages.TxnRequest(compare=[COMPARE(key=b"k", result=number)])),
        ("Maintenance/Alarm", lambda number: messages.AlarmRequest(action=number)),
        ("Maintenance/Alarm", lambda number: messages.AlarmRequest(alarm=number)),
    ],
)
def test_numbers_that_stand_for_nothing_are_refused(path: str, made: Any, number: int) -> None:
    async def scenario(s: Served) -> None:
        error = await refusal(s.call(f"/etcdserverpb.{path}", made(number)))
        assert error.code is Code.INVALID_ARGUMENT, error

    play(scenario)
