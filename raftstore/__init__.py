"""etcd: a Raft group of actors under an MVCC key-value store.

The contract
- `storage`: what every store promises, as messages; the only module that its clients need

The actors
- `group`: a `Storage` over the members of this host; `router`: gives them requests, again where need be;
  `relays`: passes on the watches that they serve; `waking`: when the next is due
- `member`: one member: drives the core, applies the log; `memberlog`: what it makes durable
- `wal`: a member's log on a disk; `transfers`: its snapshots on their way to and from others
- `clients`: what a member does for its clients: proposes, forwards, reads, answers
- `membership`: what members and routers tell each other; `remote_peers`: members in other processes
- `founding`: what members begin with; `cluster`: the replicated list of them, and when it may change
- `memory`: a `Storage` in a single actor
- `feeds`, `serving`: what both kinds of store share

The state machine, sans I/O
- `mvcc` over `keyspace`, `changelog` and `transaction`: revisions, transactions, compaction
- `sortedmap`: what keys lie in, shared by snapshots; `pairblock`: a stretch of pairs in columns
- `snapshot`: views, and slices to carry them elsewhere; `restorer`: from slices to the state
- `leases`, `timing`, `deadlines`: the table of leases, and what the leader proposes because of the time
- `users`, `permissions`, `authorization`: who may do what; `passwords`: bcrypt, at the edge
- `alarms`: the quota, and what is refused while there is an alarm
- `watch`: who has seen what
- `machine`: all of it as the log drives it; `sessions`: what makes a retry harmless

The Raft core, sans I/O
- `raft` over `election` over `replication`: messages, proposals and time in, `ready.Ready` out
- `log`, `progress`, `leadership`, `readindex`: one concern each
- `quorum`, `configuration`, `confchange`: who takes part, and what is a majority
- `messages`, `options`: what is said, and the knobs
- `snapshot_transfer`: a snapshot between two members, a chunk at a time
- `loopback`: a whole group in one hand, for transcripts and property tests
"""

from .founding import founding_state as founding_state
from .group import raft_group as raft_group
from .group import raft_node as raft_node
from .memory import memory_store as memory_store
from .options import GroupOptions as GroupOptions
from .options import MemberOptions as MemberOptions
from .options import RaftOptions as RaftOptions
from .storage import Storage as Storage
