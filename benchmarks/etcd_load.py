"""Load on an etcd, ours or the real one, over gRPC: a process of its own that prints one line of JSON.

    python benchmarks/etcd_load.py --endpoints 127.0.0.1:2379 --clients 64 --seconds 3 put|range|stale-range
    python benchmarks/etcd_load.py --endpoints 127.0.0.1:2379 --clients 1000 --seconds 3 watch
    python benchmarks/etcd_load.py --endpoints 127.0.0.1:2379 --keys 1000000 fill

The few bytes of each request are made by hand and of answers only what is measured is read: the client costs
as little as a gRPC client in Python can (grpcio's asyncio client, which is C below its calls).
"""

import argparse
import asyncio
import json
import re
import time
from typing import Any

import grpc
import grpc.aio

VALUE_BYTES = 256
STREAMS = 8
"""Watches share so many streams, as those of one etcd client share one."""
AHEAD = 16
"""So many puts are made before the slowest watcher has seen the first of them."""
TXN_PUTS = 128
_STAMP = re.compile(rb"<([0-9]{12}\.[0-9]{6})>")


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def field(number: int, data: bytes) -> bytes:
    """A protobuf field of bytes."""
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def fields(data: bytes) -> dict[int, Any]:
    """The fields of a message that has varints and bytes; of several of one number the last."""
    found: dict[int, Any] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        size = number()
        if tag & 7 == 0:
            found[tag >> 3] = size
        else:
            assert tag & 7 == 2, tag
            found[tag >> 3] = data[at : at + size]
            at += size
    return found


def put(key: bytes, value: bytes) -> bytes:
    """PutRequest."""
    return field(1, key) + field(2, value)


def get(key: bytes, *, serializable: bool) -> bytes:
    """RangeRequest."""
    return field(1, key) + (b"\x38\x01" if serializable else b"")


def filled(number: int) -> bytes:
    """The key of 26 bytes that `fill` puts."""
    return b"/registry/bench/%010d" % number


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summary(latencies_s: list[float], seconds: float) -> dict[str, float]:
    """Operations per second, and latencies in milliseconds."""
    ordered = sorted(latencies_s)
    return {
        "rate": len(ordered) / seconds,
        **{f"p{share * 100:g}_ms": percentile(ordered, share) * 1000 for share in (0.5, 0.9, 0.99)},
    }


async def load(endpoints: list[str], clients: int, seconds: float, what: str) -> dict[str, float]:
    channels = [grpc.aio.insecure_channel(endpoint) for endpoint in endpoints]
    method = "/etcdserverpb.KV/Put" if what == "put" else "/etcdserverpb.KV/Range"
    calls = [channel.unary_unary(method) for channel in channels]
    writers = [channel.unary_unary("/etcdserverpb.KV/Put") for channel in channels]
    await writers[0](put(b"load", b"x" * VALUE_BYTES), timeout=20, wait_for_ready=True)
    latencies: list[float] = []
    began = time.perf_counter()
    ends = began + seconds

    async def client(number: int) -> None:
        call = calls[number % len(calls)]
        read = get(b"load", serializable=what == "stale-range")
        value, count = b"x" * VALUE_BYTES, 0
        while (now := time.perf_counter()) < ends:
            count += 1
            await call(put(b"load/%d/%d" % (number, count), value) if what == "put" else read, timeout=20)
            latencies.append(time.perf_counter() - now)

    await asyncio.gather(*(client(number) for number in range(clients)))
    result = summary(latencies, time.perf_counter() - began)
    for channel in channels:
        await channel.close()
    return result


async def watch(endpoints: list[str], watchers: int, seconds: float) -> dict[str, float]:
    """Puts of one key with so many watchers: events per second at all of them, and how late each is."""
    channels = [grpc.aio.insecure_channel(endpoint) for endpoint in endpoints]
    put_call = channels[0].unary_unary("/etcdserverpb.KV/Put")
    await put_call(put(b"seen", b"-"), timeout=20, wait_for_ready=True)
    streams = min(STREAMS, watchers)
    seen, created = [0] * streams, [0] * streams
    share = [watchers // streams + (number < watchers % streams) for number in range(streams)]
    changed = asyncio.Event()
    lags: list[float] = []

    async def follow(number: int) -> None:
        call = channels[number % len(channels)].stream_stream("/etcdserverpb.Watch/Watch")()
        for _ in range(share[number]):
            await call.write(field(1, field(1, b"seen")))
        async for answer in call:
            now = time.perf_counter()
            stamps = _STAMP.findall(answer)
            if stamps:
                seen[number] += len(stamps)
                lags.extend([now - float(stamp) for stamp in stamps])
            else:
                created[number] += 1
            changed.set()

    async def until(reached: Any) -> None:
        while not reached():
            changed.clear()
            await asyncio.wait_for(changed.wait(), 30)

    followers = [asyncio.create_task(follow(number)) for number in range(streams)]
    await until(lambda: sum(created) == watchers)
    began = time.perf_counter()
    count = 0
    while (now := time.perf_counter()) - began < seconds:
        await put_call(put(b"seen", b"<%019.6f>" % now), timeout=20)
        count += 1
        ahead = count - AHEAD
        await until(lambda: all(seen[n] >= ahead * share[n] for n in range(streams)))  # noqa: B023
    await until(lambda: sum(seen) >= count * watchers)
    result = summary(lags, time.perf_counter() - began)
    assert sum(seen) == count * watchers, (seen, count, watchers)
    for follower in followers:
        follower.cancel()
    for channel in channels:
        await channel.close()
    return result


async def fill(endpoints: list[str], keys: int) -> dict[str, float]:
    """So many keys in transactions, with values of `VALUE_BYTES`."""
    async with grpc.aio.insecure_channel(endpoints[0]) as channel:
        call = channel.unary_unary("/etcdserverpb.KV/Txn")
        await channel.unary_unary("/etcdserverpb.KV/Put")(put(b"fill", b"-"), timeout=20, wait_for_ready=True)
        began = time.perf_counter()
        firsts = iter(range(0, keys, TXN_PUTS))

        async def client() -> None:
            for first in firsts:
                puts = (
                    put(filled(number), b"%010d" % number + b"x" * (VALUE_BYTES - 10))
                    for number in range(first, min(keys, first + TXN_PUTS))
                )
                await call(b"".join(field(2, field(2, each)) for each in puts), timeout=60)

        await asyncio.gather(*(client() for _ in range(8)))
        return {"rate": keys / (time.perf_counter() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("what", choices=("put", "range", "stale-range", "watch", "fill"))
    options = parser.parse_args()
    endpoints = options.endpoints.split(",")
    if options.what == "fill":
        work = fill(endpoints, options.keys)
    elif options.what == "watch":
        work = watch(endpoints, options.clients, options.seconds)
    else:
        work = load(endpoints, options.clients, options.seconds, options.what)
    print(json.dumps(asyncio.run(work)))


if __name__ == "__main__":
    main()
