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
- `mvcc` over `keyspace` and `transaction`: revisions, transactions, compaction, leases
- `watch`: who has seen what; `leases`: when they end
- `machine`: all of it as the log drives it, with the sessions that make a retry harmless

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
