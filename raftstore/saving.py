"""Snapshots on their way to whoever saves them: a task for each, as fast as its reader takes."""

from contextlib import aclosing
from typing import Any

from understudy.actors import ActorFailed, ActorStopped, ChannelReader, ChannelWriter, Context, EndOfChannel
from understudy.mailbox import ChannelClosed
from understudy.raftstore.messages import Snapshot
from understudy.raftstore.storage import SnapshotPart, StorageError, Unavailable
from understudy.raftstore.wal.saved_snapshots import saved_stream

CAPACITY = 16
"""Parts that wait for the reader, each of about 64 KiB."""


def send_snapshot(context: Context[Any], snapshot: Snapshot, to: ChannelWriter[SnapshotPart]) -> None:
    """Begin to send a snapshot over a channel, and go on until its reader is gone."""

    async def send() -> None:
        try:
            async with aclosing(saved_stream(context.world, snapshot, cluster=0)) as parts:
                async for data, remaining_bytes in parts:
                    await to.send(SnapshotPart(data, remaining_bytes))
            to.close()
        except ChannelClosed:
            pass  # Its reader wants no more.

    context.adopt(to)
    to.on_end(context.start_soon(send, name=f"{context.path} snapshot"))


def relay_snapshot(
    context: Context[Any], reader: ChannelReader[SnapshotPart], to: ChannelWriter[SnapshotPart]
) -> None:
    """Begin to pass on what a member sends. When the member stops, so does this: another's state is another
    file."""

    async def relay() -> None:
        try:
            while True:
                await to.send(await reader.receive())
        except EndOfChannel:
            to.close()
        except ChannelClosed:
            pass  # Its reader wants no more.
        except StorageError as error:
            to.close(error)
        except (ActorStopped, ActorFailed) as error:
            to.close(Unavailable(f"the member that told its state stopped: {error}"))

    context.adopt(to)
    cancel = context.start_soon(relay, name=f"{context.path} snapshot")

    def gone() -> None:
        # A relay that had not begun yet cannot do it.
        reader.cancel()
        cancel()

    to.on_end(gone)
