"""Load on a group of members with logs on this machine's disk, asked in its own process: one line of JSON.

python benchmarks/store_inprocess.py --folder FOLDER --members 3 --clients 64 --seconds 2 put
"""

import argparse
import json
import sys
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))
from etcd_load import AHEAD, VALUE_BYTES, summary

from understudy.actors import ActorSystem, ChannelReader, RealWorld, Ref
from understudy.actors.real_disk import RealDisk
from understudy.cli import garbage
from understudy.raftstore import GroupOptions, Storage, raft_group
from understudy.raftstore.storage import OpenWatch, Put, Range, Watch, WatchBatch
from understudy.raftstore.wal.logs import DiskLogs

VALUE = b"x" * VALUE_BYTES
WATCH_CAPACITY = 4 * AHEAD


async def load(store: Ref[Storage], clients: int, seconds: float, what: str) -> dict[str, float]:
    latencies: list[float] = []
    read = Range(b"load", serializable=what == "stale-range")
    began = time.perf_counter()
    ends = began + seconds

    async def client(number: int) -> None:
        count = 0
        while (now := time.perf_counter()) < ends:
            count += 1
            await store.ask(Put(b"load/%d/%d" % (number, count), VALUE) if what == "put" else read)
            latencies.append(time.perf_counter() - now)

    cpu_s = time.process_time()
    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(client, number)
    cpu_s = time.process_time() - cpu_s
    return summary(latencies, time.perf_counter() - began) | {"cpu_us": 1e6 * cpu_s / len(latencies)}


async def watch(system: ActorSystem, store: Ref[Storage], watchers: int, seconds: float) -> dict[str, float]:
    lags: list[float] = []
    seen = [0] * watchers
    slowest = 0
    changed = trio.Event()

    async def follow(number: int, reader: ChannelReader[WatchBatch]) -> None:
        nonlocal slowest
        while True:
            for event in (await reader.receive()).events:
                lags.append(time.perf_counter() - float(event.kv.value))
                seen[number] += 1
            if seen[number] > slowest and (now := min(seen)) > slowest:
                slowest = now
                changed.set()

    async with trio.open_nursery() as nursery:
        for number in range(watchers):
            writer, reader = system.own_channel(f"watcher {number}", WATCH_CAPACITY)
            await store.ask(OpenWatch(Watch(b"seen"), writer))
            nursery.start_soon(follow, number, reader)
        count = 0
        began = time.perf_counter()
        while (now := time.perf_counter()) - began < seconds or slowest < count:
            if now - began < seconds and count - slowest < AHEAD:
                await store.ask(Put(b"seen", b"%019.6f" % now))
                count += 1
            else:
                changed = trio.Event()
                with trio.fail_after(30):
                    await changed.wait()
        elapsed = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    assert len(lags) == count * watchers, (len(lags), count, watchers)
    return summary(lags, elapsed)


async def run(options: argparse.Namespace) -> dict[str, float]:
    logs = DiskLogs(folder="", disk=RealDisk(options.folder)) if options.folder else None
    group = raft_group(GroupOptions(members=options.members), disk_logs=logs)
    async with RealWorld.open(seed=1) as world, ActorSystem.open(world) as system:
        store = system.spawn(group, "etcd")
        await store.ask(Put(b"load", VALUE))
        garbage.settle()
        if options.what == "watch":
            return await watch(system, store, options.clients, options.seconds)
        return await load(store, options.clients, options.seconds, options.what)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="of the logs; in memory without it")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("what", choices=("put", "range", "stale-range", "watch"))
    result = trio.run(run, parser.parse_args())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
