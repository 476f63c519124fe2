"""Nodes: the same refs across processes, over TCP, Unix sockets or simulated links.

- `node`: `Remote`, this process among others: listens, calls, decides who is a peer
- `peer`: another node, and where remote refs send their messages
- `inbound`, `watching`, `channels`, `streams`: what is exchanged with a peer, each its part
- `session`, `framing`, `protocol`, `credit`, `reliable`: the protocol, as state machines without I/O
- `connection`: the tasks of one stream; `link`: what they need of a network
- `network`: TCP, Unix sockets and TLS; `simulated`: streams in virtual time, with faults
"""

from .link import AddressError as AddressError
from .link import Transport as Transport
from .network import Network as Network
from .network import Tls as Tls
from .node import Remote as Remote
from .peer import Peer as Peer
from .peer import PeerStatus as PeerStatus
from .protocol import Identity as Identity
from .protocol import Limits as Limits
from .refusals import ConnectFailed as ConnectFailed
from .refusals import PeerLost as PeerLost
from .refusals import PeerQuarantined as PeerQuarantined
from .simulated import SimNetwork as SimNetwork
from .streams import ReliableRef as ReliableRef
