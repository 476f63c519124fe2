"""The real world: the machine's clock, entropy and threads."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from .disk import Disk, parts_of
from .dispatch import RealDispatcher
from .real_disk import RealDisk
from .startup import StartError
from .world import KeyProvider, NoDisk, World

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa


KEYS_FOLDER = "keys"
"""In the root of a world's disks: private keys, which are the same every time that the world is opened."""


STARTS_FILE = "starts"
"""In the root of the disks of a world with a seed: how often it has begun."""


class GeneratedKeys(KeyProvider):
    """Keys made when first asked for, in a thread; kept in memory, and in a folder if there is one."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is made when the first key is; only its owner may read what is in it."""
        self._folder = folder
        self._keys: dict[str, bytes] = {}
        self._making = trio.Lock()

    async def rsa_private_key(self, name: str) -> bytes:
        return await self._key(f"{name}.rsa.pem", _generate_rsa)

    async def ec_private_key(self, name: str) -> bytes:
        return await self._key(f"{name}.ec.pem", _generate_ec)

    async def _key(self, name: str, generate: Callable[[], bytes]) -> bytes:
        async with self._making:
            if name not in self._keys:
                self._keys[name] = await trio.to_thread.run_sync(_kept, self._folder, name, generate)
        return self._keys[name]


def _kept(folder: Path | None, name: str, generate: Callable[[], bytes]) -> bytes:
    """The key in the folder; the first time it is generated, and whole on the disk before it is used."""
    if folder is None:
        return generate()
    file = folder / name
    if file.exists():
        return file.read_bytes()
    folder.mkdir(mode=0o700, exist_ok=True)
    key = generate()
    _write_whole(file, key)
    return key


def _write_whole(file: Path, data: bytes) -> None:
    """Replace a file that only its owner may read, durably; whatever happens it is the old one or the new."""
    beside = file.with_name(f"{file.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        output.write(data)
        output.flush()
        os.fsync(descriptor)
    beside.rename(file)
    names = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(names)
    finally:
        os.close(names)


def _count_start(root: Path) -> int:
    """How often a world with a seed has begun in this folder, with this time."""
    file = root / STARTS_FILE
    text = file.read_text() if file.exists() else "0"
    try:
        start = int(text) + 1
    except ValueError:
        raise StartError(
            f"{file} should say how often this world has begun, and says {text!r:.40}",
            "write a number into it that is larger than that, or start without a seed",
        ) from None
    _write_whole(file, f"{start}\n".encode())
    return start


def _generate_rsa() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def _generate_ec() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    return _pem(ec.generate_private_key(ec.SECP256R1()))


def _pem(key: "rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class RealWorld(World):
    """Real time; randomness from the system unless a seed is given. (With disks, each start with one draws
    something else: the names and ids of the starts before are in use.)

    Enter it (`async with RealWorld.open() as world`) so that its timers run.
    """

    def __init__(self, seed: int | None = None, disk_root: Path | None = None) -> None:
        """In `disk_root`, which is made if need be, each host gets a folder for its disk, and keys one."""
        if disk_root is not None:
            disk_root.mkdir(parents=True, exist_ok=True)
        self._disk_root = disk_root
        self._dispatcher = RealDispatcher()
        start = 1 if seed is None or disk_root is None else _count_start(disk_root)
        super().__init__(self._dispatcher, int.from_bytes(os.urandom(16)) if seed is None else seed, start)
        self.keys = GeneratedKeys(None if disk_root is None else disk_root / KEYS_FOLDER)

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
