"""Puts per second through a whole Raft group in this process: CLIENTS tasks, each with one put under way.

    python benchmarks/bench_raft_puts.py [CLIENTS] [ROUNDS]

Prints the best of the rounds and the median latency in it. The members' logs are in memory, so that what is
measured is the path from `Put` to its answer.
"""

import sys
import time

import trio

from understudy.actors import ActorSystem, RealWorld
from understudy.raftstore import raft_group
from understudy.raftstore.storage import Put

SECONDS = 1.5
VALUE = b"x" * 256


async def measure(clients: int) -> tuple[float, float]:
    """(puts per second, median latency in ms)."""
    latencies: list[float] = []
    async with RealWorld.open(seed=1) as world, ActorSystem.open(world) as system:
        store = system.spawn(raft_group(), "etcd")
        await store.ask(Put(b"warm", VALUE))
        end = time.perf_counter() + SECONDS

        async def client(number: int) -> None:
            key = b"/bench/%d" % number
            while (began := time.perf_counter()) < end:
                await store.ask(Put(key, VALUE))
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(clients):
                nursery.start_soon(client, number)
        elapsed = time.perf_counter() - began
    latencies.sort()
    return len(latencies) / elapsed, 1000 * latencies[len(latencies) // 2]


def main() -> None:
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    best = max(trio.run(measure, clients) for _ in range(rounds))
    print(f"{clients} clients: {best[0]:,.0f} puts/s, median {best[1]:.2f} ms")


if __name__ == "__main__":
    main()
