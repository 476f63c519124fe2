"""How an actor that is a `Storage` declares what it answers: every request by its method `serve`."""

from collections.abc import Callable
from typing import Any

from understudy.actors import handles
from understudy.mailbox import Message


def serving(request_type: type[Message[Any]], *, concurrent: bool = False) -> Callable[[Any, Any], Any]:
    """A handler for one type of request that hands it to the actor's `serve`, async if it is `concurrent`."""

    async def serve_aside(self: Any, request: Any) -> Any:
        return await self.serve(request)

    def serve(self: Any, request: Any) -> Any:
        return self.serve(request)

    return handles(request_type, concurrent=concurrent)(serve_aside if concurrent else serve)
