"""A member of a PySyncObj group of three; member 0 also puts load on it and prints one line of JSON.

As it comes, PySyncObj writes its journal into a memory map and acknowledges before the disk has it. With
`--sync` the journal is flushed after each append, before the answer: the durability of the other stores. Its
default heartbeat of 100 ms paces every answer; at 5 ms it is fastest.
"""

import argparse
import json
import sys
import threading
import time
from pathlib import Path

import pysyncobj.journal

sys.path.insert(0, str(Path(__file__).parent))
from etcd_load import VALUE_BYTES, summary
from pysyncobj import SyncObjConf
from pysyncobj.batteries import ReplDict
from pysyncobj.syncobj import SyncObj, SyncObjException


def flush_every_append() -> None:
    append = pysyncobj.journal.FileJournal.add

    def add(self: pysyncobj.journal.FileJournal, *entry: object) -> None:
        append(self, *entry)
        self.flush()

    pysyncobj.journal.FileJournal.add = add


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--ports", required=True)
    parser.add_argument("--member", type=int, required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--sync", action="store_true")
    options = parser.parse_args()
    if options.sync:
        flush_every_append()
    addresses = [f"127.0.0.1:{port}" for port in options.ports.split(",")]
    own = addresses.pop(options.member)
    table = ReplDict()
    journal = Path(options.folder) / f"journal-{options.member}"
    conf = SyncObjConf(journalFile=str(journal), autoTickPeriod=0.001, appendEntriesPeriod=0.005)
    member = SyncObj(own, addresses, conf, consumers=[table])
    member.waitReady()
    if options.member:
        time.sleep(options.seconds + 120)
        return
    while member._getLeader() is None:
        time.sleep(0.01)
    latencies: list[float] = []
    failures: list[int] = []
    began = time.perf_counter()
    ends = began + options.seconds
    value = b"x" * VALUE_BYTES

    def client(number: int) -> None:
        count = 0
        while (now := time.perf_counter()) < ends:
            count += 1
            try:
                table.set(b"load/%d/%d" % (number, count), value, sync=True, timeout=20)
            except SyncObjException:
                # It changes its leader under load, and drops what was under way.
                failures.append(number)
            else:
                latencies.append(time.perf_counter() - now)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = summary(latencies, time.perf_counter() - began) | {"failed": len(failures)}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
