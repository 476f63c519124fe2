"""Runs `understudy` and says where its CPU time went, by parts: samples taken by the process's CPU clock.

    python benchmarks/store_profile.py OUTPUT etcd --data-dir ...

The first SIGUSR1 begins, the second writes {part: seconds} to OUTPUT. A sample counts for the innermost frame
of the main thread that belongs to a part; C code counts for who called it, and the time of threads that write
to the disk for the loop's wait, where the main thread mostly is meanwhile.
"""

import json
import resource
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

INTERVAL_S = 0.001
PARTS = (
    ("/h2/", "HTTP/2 and gRPC"),
    ("/hpack/", "HTTP/2 and gRPC"),
    ("/raftstore/etcd/http2.py", "HTTP/2 and gRPC"),
    ("/raftstore/etcd/connection.py", "HTTP/2 and gRPC"),
    ("/raftstore/etcd/grpc.py", "HTTP/2 and gRPC"),
    ("/raftstore/etcd/server.py", "calls and sockets"),
    ("/raftstore/etcd/", "protobuf and mapping"),
    ("/raftstore/router.py", "router"),
    ("/raftstore/group.py", "router"),
    ("/raftstore/relays.py", "router"),
    ("/raftstore/serving.py", "router"),
    ("/raftstore/wal/", "log encoding"),
    ("/actors/real_disk.py", "disk and its threads"),
    ("/trio/_threads.py", "disk and its threads"),
    ("/trio/_core/_thread_cache.py", "disk and its threads"),
    ("/raftstore/machine.py", "apply"),
    ("/raftstore/mvcc.py", "apply"),
    ("/raftstore/keyspace.py", "apply"),
    ("/raftstore/sortedmap.py", "apply"),
    ("/raftstore/changelog.py", "apply"),
    ("/raftstore/transaction.py", "apply"),
    ("/raftstore/watch.py", "apply"),
    ("/raftstore/sessions.py", "apply"),
    ("/raftstore/alarms.py", "apply"),
    ("/raftstore/", "raft and member"),
    ("/actors/", "actor runtime"),
    ("/mailbox/", "actor runtime"),
    ("/trio/_core/_io_epoll.py", "waiting for I/O, and threads"),
    ("/trio/", "Trio"),
)


def part_of(frame: FrameType | None) -> str:
    while frame is not None:
        path = frame.f_code.co_filename
        for piece, part in PARTS:
            if piece in path:
                return part
        frame = frame.f_back
    return "else"


def main() -> None:
    output = Path(sys.argv.pop(1))
    counts: Counter[str] = Counter()
    began_s: list[float] = []

    def cpu_s() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def sample(number: int, frame: FrameType | None) -> None:
        counts[part_of(frame)] += 1

    def switch(number: int, frame: FrameType | None) -> None:
        if not began_s:
            began_s.append(cpu_s())
            signal.signal(signal.SIGPROF, sample)
            signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        each_s = (cpu_s() - began_s[0]) / counts.total()
        beside = output.with_suffix(".new")
        beside.write_text(json.dumps({part: count * each_s for part, count in counts.most_common()}))
        beside.rename(output)

    signal.signal(signal.SIGUSR1, switch)
    from understudy.__main__ import main as understudy

    understudy()


if __name__ == "__main__":
    main()
