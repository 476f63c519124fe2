"""A FastAPI service whose state lives in actors: one supervised account each, started when first used.

    pip install fastapi uvicorn
    python examples/fastapi_service.py

FastAPI runs on asyncio; the actors run beside it, in the same thread, by Trio's guest mode. When a client
goes away or the server stops, the work that its request had asked for is cancelled, and every actor ends.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from attrs import frozen
from fastapi import FastAPI, HTTPException, Request

from understudy.actors import Actor, AskTimeout, Ref, handles
from understudy.actors.embed import AsyncioPortal, SystemEnded, asyncio_system
from understudy.mailbox import MailboxFull, Refusal, message
from understudy.mailbox import Request as Ask


class Bank:
    """Protocol of the actor that knows every account."""


class Banking:
    """Protocol of one account."""


@message("example.bank.open")
@frozen
class Open(Ask[Bank, Ref[Banking]]):
    """Answered with the account of that name, which is started when it does not run yet."""

    owner: str


@message("example.bank.deposit")
@frozen
class Deposit(Ask[Banking, int]):
    """Answered with the new balance; the amount may be negative."""

    amount: int


@message("example.bank.overdrawn")
@frozen
class Overdrawn(Refusal):
    """There is not so much in the account."""

    balance: int


class Account(Actor[Banking]):
    """One balance. One message at a time: no two withdrawals can race."""

    def __init__(self) -> None:
        self.balance = 0

    @handles(Deposit)
    async def deposit(self, message: Deposit) -> int:
        if self.balance + message.amount < 0:
            raise Overdrawn(self.balance)
        self.balance += message.amount
        return self.balance


class Accounts(Actor[Bank]):
    """Starts and supervises the accounts."""

    def __init__(self) -> None:
        self.accounts: dict[str, Ref[Banking]] = {}

    @handles(Open)
    def open(self, message: Open) -> Ref[Banking]:
        if message.owner not in self.accounts:
            self.accounts[message.owner] = self.context.spawn(Account, message.owner)
        return self.accounts[message.owner]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The actor system lives as long as the service does."""
    async with asyncio_system() as portal:
        app.state.portal = portal
        app.state.bank = portal.spawn(Accounts, "accounts", capacity=100)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/accounts/{owner}/deposit/{amount}")
async def deposit(owner: str, amount: int, request: Request) -> dict[str, int]:
    """Deposit, or withdraw a negative amount."""
    portal: AsyncioPortal = request.app.state.portal
    bank: Ref[Bank] = request.app.state.bank
    try:
        account = await portal.ask(bank, Open(owner))
        return {"balance": await portal.ask(account, Deposit(amount), timeout_seconds=2.0)}
    except Overdrawn as refused:
        raise HTTPException(409, f"only {refused.balance} in the account") from None
    except (MailboxFull, AskTimeout):
        raise HTTPException(503, "too busy, try again") from None
    except SystemEnded:
        raise HTTPException(503, "shutting down") from None


@app.get("/actors")
async def actors(request: Request) -> list[dict[str, str | int]]:
    """Who is alive."""
    portal: AsyncioPortal = request.app.state.portal
    return [
        {"path": status.path, "state": status.state, "waiting": status.mailbox.depth}
        for status in portal.system.statistics()
    ]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
