"""Who already got which answer: what makes it harmless to send a command twice.

A router that heard nothing about a command may send it again. So that it is done once, commands are numbered
within a *session*, and the answers that a router has not confirmed yet are remembered (thesis §6.3).
"""

from typing import Any

from attrs import define, field, frozen

from understudy.mailbox import Refusal, message


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
