"""What is promised to be a type error is one, and what is promised to have a type has it."""

import re
from pathlib import Path

import pytest
from mypy import api

PROGRAM = """
from attrs import frozen

from understudy.actors import Actor, ActorSystem, Context, Deferred, Key, Ref, Routing, handles
from understudy.actors import registered_pool
from understudy.mailbox import Message, Request, message


class Shop: ...
class Bank: ...

@message("typing.sell")
@frozen
class Sell(Request[Shop, int]):
    price: int

@message("typing.close")
@frozen
class Close(Message[Shop]):
    pass

@message("typing.pay")
@frozen
class Pay(Request[Bank, str]):
    pass

TILLS = Key(Shop, "tills")
BANKS = Key(Bank)


class Till(Actor[Shop]):
    async def on_start(self) -> None:
        self.context.register(TILLS)
        self.context.register(BANKS)  # E: arg-type

    @handles(Sell)
    def sell(self, message: Sell) -> int:
        return 1

    @handles(Sell, concurrent=True)
    async def sell_slowly(self, message: Sell) -> int:
        return self.sell(message)

    @handles(Sell)
    def sell_later(self, message: Sell) -> Deferred[int]:
        later = Deferred[int]()
        later.answer("")  # E: arg-type
        return later

    @handles(Sell)  # E: arg-type
    def defers_something_else(self, message: Sell) -> Deferred[str]:
        return Deferred[str]()

    @handles(Sell)  # E: arg-type
    def answers_something_else(self, message: Sell) -> str:
        return ""

    @handles(Sell)  # E: arg-type
    async def forgets_to_answer(self, message: Sell) -> None:
        pass

    @handles(Close)  # E: arg-type
    def takes_something_else(self, message: Sell) -> None:
        pass


async def use(system: ActorSystem, context: Context[Shop]) -> None:
    till = system.spawn(Till, "till")
    till.tell(Close())
    till.tell(Pay())  # E: arg-type
    await till.send(Pay())  # E: arg-type
    number: int = await till.ask(Sell(1))
    wrong: str = await till.ask(Sell(1))  # E: arg-type
    print(await till.ask(Sell(1)))
    await till.ask(Close())  # E: arg-type
    await till.ask(Pay())  # E: arg-type

    found = system.registry.find(TILLS)
    found.tell(Close())  # E: union-attr
    assert found is not None
    found.tell(Close())
    found.tell(Pay())  # E: arg-type
    for other in context.registry.find_all(BANKS):
        text: str = await other.ask(Pay())
        other.tell(Close())  # E: arg-type
    bank: Ref[Bank] = await system.registry.wait_for(BANKS)
    shop: Ref[Shop] = await system.registry.wait_for(BANKS)  # E: arg-type
    with system.registry.subscribe(TILLS) as listings:
        async for tills in listings:
            tills[0].tell(Close())
            tills[0].tell(Pay())  # E: arg-type
    pool = registered_pool(context, TILLS, Routing.ROUND_ROBIN)
    count: int = await pool.ask(Sell(1))
    pool.tell(Pay())  # E: arg-type
"""


def test_wrong_messages_are_type_errors(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    kept = getattr(request.config, "cache", None)
    cache = tmp_path / "cache" if kept is None else kept.mkdir("mypy_of_typing_promises")
    root = Path(__file__).resolve().parent.parent.parent
    out, errors, _ = api.run(
        [
            "--config-file",
            str(root / "pyproject.toml"),
            "--strict",
            "--no-error-summary",
            "--cache-dir",
            str(cache),
            str(program),
        ]
    )
    assert not errors, errors
    found = [
        (int(n), code) for n, code in re.findall(r"program\.py:(\d+): error: .*\[([\w-]+)\]$", out, re.M)
    ]
    lines = enumerate(PROGRAM.splitlines(), 1)
    promised = [(number, line.partition("# E: ")[2]) for number, line in lines if "# E: " in line]
    assert found == promised, out
