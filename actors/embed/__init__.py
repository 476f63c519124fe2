"""An actor system inside programs that are not Trio's.

- `asyncio_system`: beside asyncio's tasks, in the same thread, by Trio's guest mode
- `background_system`: in a thread of its own, for synchronous code

A Trio program needs none of this: `ActorSystem.open(world)` is a block like any other. Either way the
system ends with the block: when the host is cancelled or fails, every actor is stopped in order, each
within its deadline; when the system fails, the block is told. Real adapters: not for simulations.
"""

from .asyncio_host import AsyncioPortal as AsyncioPortal
from .asyncio_host import asyncio_system as asyncio_system
from .background import ThreadPortal as ThreadPortal
from .background import background_system as background_system
from .hosted import SystemEnded as SystemEnded
