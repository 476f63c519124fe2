"""Load on an etcd, ours or the real one, over gRPC: a process of its own that prints one line of JSON.

    python benchmarks/etcd_load.py --endpoints 127.0.0.1:2379 --clients 64 --seconds 3 put|range|stale-range

The few bytes of each request are made once and the answers are not parsed: the client costs as little as a
gRPC client in Python can (grpcio's asyncio client, which is C below its calls).
"""

import argparse
import asyncio
import json
import time

import grpc
import grpc.aio

VALUE_BYTES = 256


def field(number: int, data: bytes) -> bytes:
    """A protobuf field of bytes."""
    assert len(data) < 1 << 14, len(data)
    length = bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 127 | 128, len(data) >> 7])
    return bytes([number << 3 | 2]) + length + data


def put(key: bytes, value: bytes) -> bytes:
    """PutRequest."""
    return field(1, key) + field(2, value)


def get(key: bytes, *, serializable: bool) -> bytes:
    """RangeRequest."""
    return field(1, key) + (b"\x38\x01" if serializable else b"")


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("what", choices=("put", "range", "stale-range"))
    options = parser.parse_args()
    result = asyncio.run(load(options.endpoints.split(","), options.clients, options.seconds, options.what))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
