"""A command that serves in the foreground until Ctrl-C: its signals, its limit on stopping, its errors.

A real adapter: it handles the process's signals.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import click

from . import complain


def serve_until_stopped(serve: Callable[[], Awaitable[None]], stop_seconds_max: float) -> int:
    """Run it until SIGINT or SIGTERM; returns the exit code. A stop that takes longer is cut off. A
    `StartError` is printed as one line."""
    import trio

    from understudy.actors.startup import StartError

    try:
        trio.run(_run, serve, stop_seconds_max)
    except (StartError, KeyboardInterrupt) as error:
        return _explain(error)
    except BaseExceptionGroup as group:
        inner: BaseException = group
        while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
            inner = inner.exceptions[0]
        if not isinstance(inner, (StartError, KeyboardInterrupt)):
            raise
        return _explain(inner)
    return 0


def _explain(error: Any) -> int:
    return 130 if isinstance(error, KeyboardInterrupt) else complain(error.message, error.hint)


async def _run(serve: Callable[[], Awaitable[None]], stop_seconds_max: float) -> None:
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, nursery, stop_seconds_max)
            await serve()


async def _stop_on_signal(signals: Any, nursery: Any, stop_seconds_max: float) -> None:
    def cut_off(number: int, frame: object) -> None:
        os.write(2, f"understudy: not stopped within {stop_seconds_max:g} s, cut off\n".encode())
        os._exit(1)

    async for _ in signals:
        # A second Ctrl-C, or a stop that hangs, ends the process at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, cut_off)
        signal.setitimer(signal.ITIMER_REAL, stop_seconds_max)
        click.echo("stopping ...")
        nursery.cancel_scope.cancel()
        return
