"""The FastAPI example under a real asyncio server, over a real socket."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

from . import example  # noqa: E402

fastapi_service = example("fastapi_service")


def served(main: Callable[["httpx.AsyncClient"], Awaitable[None]]) -> None:
    """Run `main` against the service under uvicorn on a free port."""
    import uvicorn

    async def run() -> None:
        server = uvicorn.Server(
            uvicorn.Config(fastapi_service.app, port=0, log_level="warning", lifespan="on", ws="none")
        )
        started = asyncio.Event()
        startup = server.startup

        async def start(sockets: object = None) -> None:
            await startup(sockets)  # type: ignore[arg-type]
            started.set()

        server.startup = start  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve())
        await started.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        async with asyncio.timeout(20), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await main(client)
        server.should_exit = True
        await serving

    asyncio.run(run())


def test_requests_reach_the_actors() -> None:
    async def main(client: "httpx.AsyncClient") -> None:
        assert (await client.post("/accounts/ann/deposit/10")).json() == {"balance": 10}
        assert (await client.post("/accounts/ann/deposit/-4")).json() == {"balance": 6}
        refused = await client.post("/accounts/ann/deposit/-7")
        assert (refused.status_code, refused.json()) == (409, {"detail": "only 6 in the account"})
        paths = [actor["path"] for actor in (await client.get("/actors")).json()]
        assert paths == ["/accounts", "/accounts/ann"]

    served(main)


def test_concurrent_withdrawals_cannot_race() -> None:
    async def main(client: "httpx.AsyncClient") -> None:
        await client.post("/accounts/bob/deposit/5")
        answers = await asyncio.gather(*(client.post("/accounts/bob/deposit/-1") for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [409] * 15

    served(main)


def test_the_service_can_be_started_again_and_its_state_was_the_actors() -> None:
    async def main(client: "httpx.AsyncClient") -> None:
        assert (await client.post("/accounts/ann/deposit/1")).json() == {"balance": 1}

    served(main)
    served(main)
