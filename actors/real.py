"""The real world: the machine's clock, entropy and threads."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import trio

from .disk import Disk, parts_of
from .dispatch import RealDispatcher
from .real_disk import RealDisk
from .world import KeyProvider, NoDisk, World


class GeneratedKeys(KeyProvider):
    """Keys made when first asked for, in a thread, and kept in memory only."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}
        self._making = trio.Lock()

    async def rsa_private_key(self, name: str) -> bytes:
        async with self._making:
            if name not in self._keys:
                self._keys[name] = await trio.to_thread.run_sync(_generate_rsa)
        return self._keys[name]


def _generate_rsa() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class RealWorld(World):
    """Real time; randomness from the system unless a seed is given.

    Enter it (`async with RealWorld.open() as world`) so that its timers run.
    """

    def __init__(self, seed: int | None = None, disk_root: Path | None = None) -> None:
        """`disk_root` is a folder that exists; each host gets a folder in it for its disk."""
        self._disk_root = disk_root
        self._dispatcher = RealDispatcher()
        super().__init__(self._dispatcher, int.from_bytes(os.urandom(16)) if seed is None else seed)
        self.keys = GeneratedKeys()

    @property
    def simulated(self) -> bool:
        return False

    def now(self) -> datetime:
        return datetime.now(UTC)

    def disk(self, host: str) -> Disk:
        if self._disk_root is None:
            raise NoDisk("this world has no disk: RealWorld.open(disk_root=...)")
        (name,) = parts_of(host)
        folder = self._disk_root / name
        folder.mkdir(exist_ok=True)
        return RealDisk(folder)

    @classmethod
    @asynccontextmanager
    async def open(cls, seed: int | None = None, disk_root: Path | None = None) -> AsyncIterator["RealWorld"]:
        """A world whose timers run for as long as the block does.

        The timers run beside the caller's tasks rather than below them: when the caller is cancelled,
        the deadlines of its clean-up must still pass.
        """
        world = cls(seed, disk_root)
        scope = trio.CancelScope()

        async def timers() -> None:
            with scope:
                await world._dispatcher.run_timers()

        trio.lowlevel.spawn_system_task(timers, name="world timers")
        try:
            yield world
        finally:
            scope.cancel()
