"""Slow start: batches of 1, 2, 4, ... so that what must fail fails once and not a thousand times."""

from collections.abc import Awaitable, Callable

from understudy.actors import World


async def slow_start(
    world: World, count: int, initial: int, attempt: Callable[[], Awaitable[Exception | None]]
) -> tuple[int, Exception | None]:
    """Make `count` attempts in batches that double as long as all of a batch succeed.

    `attempt` returns its error, or None. Returns how many attempts were made (all of them unless there was
    an error) and the first error.
    """
    attempted, size = 0, initial
    while attempted < count:
        batch = min(size, count - attempted)
        attempted += batch
        errors = await together(world, [attempt] * batch)
        first = next((error for error in errors if error is not None), None)
        if first is not None:
            return attempted, first
        size *= 2
    return attempted, None


async def together(
    world: World, attempts: list[Callable[[], Awaitable[Exception | None]]]
) -> list[Exception | None]:
    """Make all attempts at the same time; their errors, in their order."""
    if len(attempts) == 1:
        return [await attempts[0]()]
    results: list[Exception | None] = [None] * len(attempts)

    async def one(index: int) -> None:
        results[index] = await attempts[index]()

    async with world.nursery() as nursery:
        for index in range(len(attempts)):
            nursery.start_soon(one, index, name="attempt")
    return results
