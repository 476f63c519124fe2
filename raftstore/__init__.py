"""etcd: a Raft group of actors under an MVCC key-value store.

The contract
- `storage`: what every store promises, as messages; the only module that its clients need

The actors
- `group`: a `Storage` over three members: routing, sessions, watches that survive their leader
- `member`: one member: drives the core, applies the log; `memberlog`: what it makes durable
- `membership`: what members and routers tell each other
- `memory`: a `Storage` in a single actor
- `feeds`, `serving`: what both kinds of store share

The state machine, sans I/O
- `mvcc` over `keyspace`, `changelog` and `transaction`: revisions, transactions, compaction
- `sortedmap`: what keys lie in, shared by snapshots; `snapshot`: views, and slices to carry them elsewhere
- `leases`, `timing`, `deadlines`: the table of leases, and what the leader proposes because of the time
- `users`, `permissions`, `authorization`: who may do what; `passwords`: bcrypt, at the edge
- `alarms`: the quota, and what is refused while there is an alarm
- `watch`: who has seen what
- `machine`: all of it as the log drives it; `sessions`: what makes a retry harmless

The Raft core, sans I/O
- `raft`, `replication`: messages, proposals and time in, `ready.Ready` out
- `log`, `progress`, `leadership`, `readindex`: one concern each
- `quorum`, `configuration`, `confchange`: who takes part, and what is a majority
- `messages`, `options`: what is said, and the knobs
- `loopback`: a whole group in one hand, for transcripts and property tests
"""

from .group import raft_group as raft_group
from .memory import memory_store as memory_store
from .options import GroupOptions as GroupOptions
from .options import MemberOptions as MemberOptions
from .options import RaftOptions as RaftOptions
from .storage import Storage as Storage
