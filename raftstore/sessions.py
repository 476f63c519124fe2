"""Who already got which answer: what makes it harmless to send a command twice.

A router that heard nothing about a command may send it again. So that it is done once, commands are numbered
within a *session*, and the answers that a router has not confirmed yet are remembered (thesis §6.3).
"""

from typing import Any, Final

from attrs import define, field, frozen

from understudy.mailbox import Refusal, message
from understudy.raftstore.storage import (
    DeleteRangeReply,
    KeyValue,
    PutReply,
    RangeReply,
    TxnReply,
    Unavailable,
)

ANSWER_BYTES_MAX: Final = 1 << 20
"""Of keys and values in an answer that is remembered. (A single pair may be larger.)"""


@message("raft.command")
@frozen
class Command:
    """The data of a normal entry."""

    session: int
    """Drawn by each router anew; 0 for what a leader proposes by itself, which is safe to be done twice."""
    number: int
    settled: int
    """The router waits for no answer to a number below this one, and will send none of them again."""
    request: Any


@message("raft.answer")
@frozen
class Answer:
    """What came of a request: a reply or a refusal."""

    reply: Any = None
    refusal: Refusal | None = None


TOO_LARGE: Final = Answer(
    refusal=Unavailable("it was done, but the answer is too large to be given twice", maybe_applied=True)
)
"""What is remembered in place of an answer that is very large: who asks again has lost the first one."""


def memorable(answer: Answer) -> Answer:
    """The answer as it is remembered; the same at every member."""
    reply = answer.reply
    if isinstance(reply, (TxnReply, DeleteRangeReply)) and weight_bytes(reply) > ANSWER_BYTES_MAX:
        return TOO_LARGE
    return answer


def weight_bytes(reply: Any) -> int:
    """About what a reply weighs: keys and values."""
    match reply:
        case PutReply():
            return _pairs_bytes((reply.prev_kv,)) if reply.prev_kv is not None else 0
        case RangeReply():
            return _pairs_bytes(reply.kvs)
        case DeleteRangeReply():
            return _pairs_bytes(reply.prev_kvs)
        case TxnReply():
            return sum(map(weight_bytes, reply.responses))
    return 0


def _pairs_bytes(pairs: tuple[KeyValue, ...]) -> int:
    return sum(len(pair.key) + len(pair.value) for pair in pairs)


@message("raft.session-state")
@frozen
class SessionState:
    session: int
    settled: int
    answers: tuple[tuple[int, Answer], ...]


@define
class Session:
    settled: int = 0
    answers: dict[int, Answer] = field(factory=dict)

    def settle(self, settled: int) -> None:
        if settled > self.settled:
            self.settled = settled
            answers = self.answers
            # They come about in the order of their numbers: what is behind a later one goes when that goes.
            while answers and (number := next(iter(answers))) < settled:
                del answers[number]
