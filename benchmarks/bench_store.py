"""The store beside a real etcd and PySyncObj: same machine, same disk, durable before it is acknowledged.

    make bench-store ARGS="--quick"
    python benchmarks/bench_store.py [--quick] [--only puts,reads,watches,elections,memory,parts]

Ours in-process (asked by actors in the process that has the members), and over gRPC with the members in one
process or in one each; etcd and PySyncObj as processes on loopback. Contestants alternate, and of several
rounds each one's best counts: other work on the machine makes figures worse, never better.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from attrs import evolve, frozen

sys.path.insert(0, str(Path(__file__).parent))
from etcd_load import TXN_PUTS, VALUE_BYTES, field, fields, filled, get, put
from rows import Row, compared, report
from store_peers import HERE, OURS, Server, drive, folder_here, ours_in_one, pysyncobj, server

Result = dict[str, float]
ETCD = ["etcd"]
PUT, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"
STATUS = "/etcdserverpb.Maintenance/Status"
KEY_BYTES = len(filled(0))
PATIENCE_S = 60.0
"""What has not happened within this time never will."""
FILL_S = 900.0
"""A fill that takes longer has come to a stand."""


def patience(what: str) -> Iterator[None]:
    """Again and again, for `PATIENCE_S`; then it ends the benchmark."""
    ends = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < ends:
        yield
    raise SystemExit(f"{what} within {PATIENCE_S:g} s: look at the store with `make test` first")


@frozen
class Scale:
    """How much is measured."""

    seconds: float
    rounds: int
    clients: tuple[int, ...]
    elections: int
    keys: int


FULL = Scale(seconds=1.5, rounds=2, clients=(1, 8, 64, 256), elections=5, keys=1_000_000)
QUICK = Scale(seconds=1.0, rounds=1, clients=(1, 64), elections=2, keys=100_000)


def in_process(members: int, clients: int, seconds: float, what: str) -> Result:
    """Ours, asked by actors of its own process."""
    with folder_here() as folder:
        command = [sys.executable, str(HERE / "store_inprocess.py"), "--folder", str(folder)]
        command += ["--members", str(members), "--clients", str(clients), "--seconds", str(seconds), what]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=seconds + 60)
        result: Result = json.loads(done.stdout)
        return result


def best(rounds: int, contestants: dict[str, Callable[[], Result]]) -> dict[str, Result]:
    """Each one's round with the highest rate; they alternate."""
    found: dict[str, Result] = {}
    for _ in range(rounds):
        for name, measure in contestants.items():
            result = measure()
            if name not in found or result["rate"] > found[name]["rate"]:
                found[name] = result
    return found


def beside(figure: str, unit: str, ours: Result, peer: str, theirs: Result) -> list[Row]:
    """Rate and latencies beside a peer's."""
    rows = [compared(figure, ours["rate"], unit, peer, theirs["rate"], less_is_better=False)]
    for share in ("p50", "p90", "p99"):
        name = f"{share}_ms"
        rows.append(compared(f"{figure}, {share}", ours[name], "ms", peer, theirs[name], less_is_better=True))
    return rows


def held(row: Row, reach: str, met: bool) -> Row:
    return evolve(row, reach=reach, met=met)


# ------------------------------------------------------------------------------------------------------------
# Puts, reads, watches
# ------------------------------------------------------------------------------------------------------------


def _three(
    scale: Scale, members: int, clients: int, what: str, ours: Server, etcd: Server
) -> dict[str, Result]:
    """Ours in-process and over gRPC, and etcd."""
    return best(
        scale.rounds,
        {
            "in-process": lambda: in_process(members, clients, scale.seconds, what),
            "gRPC": lambda: drive(ours.endpoints, clients, scale.seconds, what),
            "etcd": lambda: drive(etcd.endpoints, clients, scale.seconds, what),
        },
    )


def puts(scale: Scale) -> list[Row]:
    rows: list[Row] = []
    for members in (1, 3):
        for clients in scale.clients:
            with ours_in_one(members) as ours, server(ETCD, members) as etcd:
                found = _three(scale, members, clients, "put", ours, etcd)
            for way in ("in-process", "gRPC"):
                figure = f"puts, {members} members, {clients} clients, {way}"
                new = beside(figure, "puts/s", found[way], "etcd", found["etcd"])
                if (members, clients, way) == (3, 64, "in-process"):
                    ratio = new[0].ratio
                    assert ratio is not None
                    new[0] = held(new[0], "as many as etcd", ratio >= 1.0)
                rows += new
    return rows + puts_of_pysyncobj(scale)


def puts_of_pysyncobj(scale: Scale) -> list[Row]:
    rows: list[Row] = []
    for clients in scale.clients:
        ways: dict[str, Callable[[], Result]] = {
            "ours": lambda: in_process(3, clients, scale.seconds, "put"),  # noqa: B023
            "PySyncObj, flushed": lambda: pysyncobj(clients, scale.seconds, sync=True),  # noqa: B023
            "PySyncObj, not flushed": lambda: pysyncobj(clients, scale.seconds, sync=False),  # noqa: B023
        }
        found = best(scale.rounds, ways)
        ours = found.pop("ours")
        for peer, theirs in found.items():
            new = beside(f"puts, 3 members, {clients} clients, in-process", "puts/s", ours, peer, theirs)
            if clients == 64 and peer == "PySyncObj, flushed":
                ratio = new[0].ratio
                assert ratio is not None
                new[0] = held(new[0], "5 times PySyncObj", ratio >= 5.0)
            rows += new
    return rows


def reads(scale: Scale) -> list[Row]:
    rows: list[Row] = []
    for what, name in (("range", "linearizable"), ("stale-range", "serializable")):
        for clients in scale.clients:
            with ours_in_one(3) as ours, server(ETCD, 3) as etcd:
                found = _three(scale, 3, clients, what, ours, etcd)
            for way in ("in-process", "gRPC"):
                figure = f"{name} gets, 3 members, {clients} clients, {way}"
                rows += beside(figure, "gets/s", found[way], "etcd", found["etcd"])
    return rows


def watches(scale: Scale) -> list[Row]:
    rows: list[Row] = []
    for watchers in (1, 100, 1000):
        with ours_in_one(3) as ours, server(ETCD, 3) as etcd:
            found = _three(scale, 3, watchers, "watch", ours, etcd)
        for way in ("in-process", "gRPC"):
            figure = f"events to {watchers} watchers, {way}"
            rows += beside(figure, "events/s", found[way], "etcd", found["etcd"])
    return rows


# ------------------------------------------------------------------------------------------------------------
# Elections
# ------------------------------------------------------------------------------------------------------------


def call(endpoint: str, method: str, request: bytes, timeout_s: float) -> bytes:
    """One call on a connection of its own. Raises grpc.RpcError."""
    with grpc.insecure_channel(endpoint, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer: bytes = channel.unary_unary(method)(request, timeout=timeout_s)
        return answer


def patiently(endpoint: str, method: str, request: bytes, within_s: float) -> bytes:
    """`call`, as often as it takes."""
    ends = time.perf_counter() + within_s
    while True:
        try:
            return call(endpoint, method, request, 1.0)
        except grpc.RpcError:
            if time.perf_counter() > ends:
                raise
            time.sleep(0.005)


def leader_of(servers: Server) -> int:
    """Which of the processes leads."""
    for _ in patience("no process led"):
        for number, endpoint in enumerate(servers.endpoints):
            status = fields(patiently(endpoint, STATUS, b"", PATIENCE_S))
            if fields(status[1])[2] == status.get(4):
                return number
    raise AssertionError("patience ends in SystemExit")


def election_ms(program: Sequence[str]) -> float:
    """How long after `kill -9` of the leader's process another member acknowledges a put."""
    with server(program, 3) as servers:
        patiently(servers.endpoints[0], PUT, put(b"before", b"-"), 60)
        leader = leader_of(servers)
        survivors = [each for number, each in enumerate(servers.endpoints) if number != leader]
        with ExitStack() as stack:
            calls = []
            for endpoint in survivors:
                channel = stack.enter_context(grpc.insecure_channel(endpoint))
                calls.append(channel.unary_unary(PUT))
                calls[-1](put(b"before", b"-"), timeout=5)
            servers.running[leader].kill()
            servers.running[leader].wait()
            began = time.perf_counter()
            for _ in patience("no put was acknowledged after the leader's kill"):
                # Asked again and again at both: a request that the death has lost must not be waited for.
                for each in calls:
                    try:
                        each(put(b"after", b"-"), timeout=0.1)
                    except grpc.RpcError:
                        continue
                    return 1000.0 * (time.perf_counter() - began)
    raise AssertionError("patience ends in SystemExit")


def elections(scale: Scale) -> list[Row]:
    ours, theirs = [], []
    for _ in range(scale.elections):
        ours.append(election_ms(OURS))
        theirs.append(election_ms(ETCD))
    ours.sort()
    theirs.sort()
    figure = f"from the leader's kill to a put, of {scale.elections}"
    worst = compared(f"{figure}: longest", ours[-1], "ms", "etcd", theirs[-1], less_is_better=True)
    middle = (len(ours) - 1) // 2
    return [
        compared(f"{figure}: median", ours[middle], "ms", "etcd", theirs[middle], less_is_better=True),
        held(worst, "1,000 ms", ours[-1] <= 1000.0),
    ]


# ------------------------------------------------------------------------------------------------------------
# Memory and recovery
# ------------------------------------------------------------------------------------------------------------


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def folder_bytes(folder: Path) -> int:
    return sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file())


@contextmanager
def waits(endpoint: str) -> Iterator[list[float]]:
    """How long another client waits for each of its reads in the block, in milliseconds; one of each 5 ms."""
    taken: list[float] = []
    over = threading.Event()

    def read() -> None:
        with grpc.insecure_channel(endpoint) as channel:
            ask = channel.unary_unary(RANGE)
            while not over.wait(0.005):
                began = time.perf_counter()
                ask(get(b"none", serializable=True), timeout=60)
                taken.append(1000.0 * (time.perf_counter() - began))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield taken
    finally:
        over.set()
        reader.join()


def recovered(servers: Server, keys: int) -> dict[str, float]:
    """Fill a group of one, kill it, and see it come back."""
    command = [sys.executable, str(HERE / "etcd_load.py"), "--endpoints", servers.endpoints[0]]
    patiently(servers.endpoints[0], PUT, put(b"ready", b"-"), 60)
    with waits(servers.endpoints[0]) as taken:
        done = subprocess.run(
            [*command, "--keys", str(keys), "fill"], stdout=subprocess.PIPE, check=True, timeout=FILL_S
        )
    result: dict[str, float] = json.loads(done.stdout)
    result["longest_ms"] = max(taken)
    result["filled_bytes"] = resident_bytes(servers.running[0].pid)
    result["disk_bytes"] = folder_bytes(servers.logs[0].parent)
    servers.running[0].kill()
    servers.running[0].wait()
    with ExitStack() as stack:
        began = time.perf_counter()
        servers.start(0, stack)
        answer = patiently(servers.endpoints[0], RANGE, get(filled(keys - 1), serializable=False), 600)
        result["recovery_s"] = time.perf_counter() - began
        assert fields(answer).get(4) == 1, answer
        result["fresh_bytes"] = resident_bytes(servers.running[0].pid)
        counted = field(1, b"/") + field(2, b"0") + b"\x48\x01"
        answer = patiently(servers.endpoints[0], RANGE, counted, 60)
        assert fields(answer).get(4) == keys, (fields(answer), keys)
    return result


def memory(scale: Scale) -> list[Row]:
    with ours_in_one(1) as servers:
        empty = resident_bytes_when_ready(servers)
        ours = recovered(servers, scale.keys)
    with server(ETCD, 1) as servers:
        theirs = recovered(servers, scale.keys)
    data = scale.keys * (KEY_BYTES + VALUE_BYTES)
    what = f"{scale.keys:,} keys of {KEY_BYTES} B with {VALUE_BYTES} B"
    rows = [
        compared(
            f"{what}: put by 8 clients, {TXN_PUTS} a transaction",
            ours["rate"],
            "keys/s",
            "etcd",
            theirs["rate"],
            less_is_better=False,
        ),
        compared(
            f"{what}: longest wait of a read meanwhile",
            ours["longest_ms"],
            "ms",
            "etcd",
            theirs["longest_ms"],
            less_is_better=True,
        ),
        compared(
            f"{what}: back after a kill",
            ours["recovery_s"],
            "s",
            "etcd",
            theirs["recovery_s"],
            less_is_better=True,
        ),
    ]
    for name, label in (
        ("fresh_bytes", "memory of a fresh process"),
        ("filled_bytes", "memory of the process that was filled"),
        ("disk_bytes", "disk"),
    ):
        share, their_share = ours[name] / data, theirs[name] / data
        row = compared(f"{what}: {label}", share, "times the data", "etcd", their_share, less_is_better=True)
        if name != "disk_bytes":
            row = held(row, "twice the data", share <= 2.0)
        rows.append(row)
    grown = (ours["fresh_bytes"] - empty) / data
    rows.append(Row(f"{what}: memory of a fresh process beyond an empty one's", grown, "times the data"))
    rows.append(Row("memory of an empty server", empty / 1e6, "MB"))
    return rows


def resident_bytes_when_ready(servers: Server) -> int:
    patiently(servers.endpoints[0], PUT, put(b"ready", b"-"), 60)
    return resident_bytes(servers.running[0].pid)


# ------------------------------------------------------------------------------------------------------------
# Where the time goes
# ------------------------------------------------------------------------------------------------------------


def parts(scale: Scale) -> list[Row]:
    """The server's CPU time per request over gRPC, by parts; see `store_profile.py`."""
    rows: list[Row] = []
    for clients, what in ((1, "put"), (64, "put"), (1, "range"), (64, "range")):
        with folder_here() as folder:
            output = folder / "parts.json"
            program = [sys.executable, str(HERE / "store_profile.py"), str(output), "etcd"]
            with ours_in_one(3, program) as ours:
                patiently(ours.endpoints[0], PUT, put(b"ready", b"-"), 60)
                ours.running[0].send_signal(signal.SIGUSR1)  # Begin ...
                result = drive(ours.endpoints, clients, scale.seconds, what)
                ours.running[0].send_signal(signal.SIGUSR1)  # ... and end.
                for _ in patience("the server did not say where its time went"):
                    if output.exists():
                        break
                    time.sleep(0.01)
            sampled: dict[str, float] = json.loads(output.read_text())
        count = result["rate"] * scale.seconds
        figure = f"CPU of a {what} over gRPC, {clients} clients"
        for part, seconds in sampled.items():
            rows.append(Row(f"{figure}: {part}", 1e6 * seconds / count, "us"))
    return rows


SCENARIOS: dict[str, Callable[[Scale], list[Row]]] = {
    "puts": puts,
    "reads": reads,
    "watches": watches,
    "elections": elections,
    "memory": memory,
    "parts": parts,
}


def scenarios(text: str) -> list[str]:
    """The names that `--only` lists. Raises `ArgumentTypeError`: one is of none."""
    names = text.split(",")
    for name in names:
        if name not in SCENARIOS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SCENARIOS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; figures are rough")
    parser.add_argument(
        "--only",
        type=scenarios,
        default=[*SCENARIOS],
        help="some of: " + ",".join(SCENARIOS),
        metavar="NAMES",
    )
    options = parser.parse_args()
    if shutil.which("etcd") is None:
        raise SystemExit("there is no etcd to compare with: apt-get install etcd-server")
    scale = QUICK if options.quick else FULL
    # What else goes on here shifts even the ratios: one process suffers otherwise than three.
    rows = [Row("load of the machine before", os.getloadavg()[0], "processes")]
    for name in options.only:
        rows += SCENARIOS[name](scale)
    complete = not options.quick and options.only == [*SCENARIOS]
    report("store" if complete else "store-partly", rows)


if __name__ == "__main__":
    main()
