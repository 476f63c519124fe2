"""The actor runtime: lifecycle, supervision, death watch, ask, timers, dispatch and worlds.

- `world`: the only way to time, randomness, ids and child tasks; `real` and `sim` implement it
- `dispatch`: every wake-up goes through here; `turns`: one at a time in simulation, in the order that a
  `schedule` says, in `virtual_time`; `stuck`: why they do not end; `_trio`: Trio's private names
- `actor`: what an actor author writes; `ref`: the only way to an actor
- `cell`: one actor's life; `incarnation`: what it owns until it restarts; `receiving`: its mailbox loop;
  `handling`: one message in it; `signals`: what the system tells it; `supervision`: after a crash, `group`:
  of several together, `stopping`: ends in order
- `registry`: actors found by what they are for; `registries`: on several hosts
- `routing`: pools of actors behind one name
- `channels`: bounded streams between actors; `supervised`: those that outlive their source
- `asking`: asks and their answers; `deferred`: those that come later
- `delivery`: what is seen of messages, and those that are lost; `hosts`: between hosts of one program;
  `host_network`: what may happen there; `sim_hosts`: machines that crash, pause and have wrong clocks;
  `crashes`: what others notice
- `system`: who is alive, and how everything begins and ends; `startup`: what can go wrong then;
  `post_office`: how messages travel
- `waiting`: who waits for whose answer, so that a circle of asks fails at once; `probe`: what instruments see
- `when_needed`: fields that cost nothing until they are used
- `disk`: files and what survives a crash; `real_disk` and `sim_disk` implement it
- `testkit`: probes, virtual time, crashes and simulated runs, for tests
- `search`: a system under many orders of turns; `exploration`: which ones; `plan`: one of them, as data;
  `simrun`: a run of one; `digest`: when two runs are at the same point; `shrinking`: from a failing run to a
  small plan; `explaining`: in words; `strategies`: plans drawn by Hypothesis
"""

from .actor import Actor as Actor
from .actor import Context as Context
from .actor import Terminated as Terminated
from .actor import handles as handles
from .channels import ChannelReader as ChannelReader
from .channels import ChannelWriter as ChannelWriter
from .channels import EndOfChannel as EndOfChannel
from .deferred import Deferred as Deferred
from .delivery import DeadLetter as DeadLetter
from .delivery import Delivery as Delivery
from .dispatch import Timer as Timer
from .group import Group as Group
from .group import Strategy as Strategy
from .host_network import HostUnreachable as HostUnreachable
from .real import RealWorld as RealWorld
from .ref import ActorFailed as ActorFailed
from .ref import ActorStopped as ActorStopped
from .ref import AskTimeout as AskTimeout
from .ref import LimitReached as LimitReached
from .ref import LinkedActorFailed as LinkedActorFailed
from .ref import Ref as Ref
from .ref import SendTimeout as SendTimeout
from .ref import StashFull as StashFull
from .ref import Unhandled as Unhandled
from .registry import Key as Key
from .registry import Listing as Listing
from .registry import NotRegistered as NotRegistered
from .registry import Registry as Registry
from .routing import HashRing as HashRing
from .routing import Pool as Pool
from .routing import Routing as Routing
from .routing import registered_pool as registered_pool
from .routing import spawn_pool as spawn_pool
from .schedule import Deviations as Deviations
from .schedule import Fifo as Fifo
from .schedule import Schedule as Schedule
from .schedule import Shuffled as Shuffled
from .sim import SimulationDeadlock as SimulationDeadlock
from .sim import SimulationTooLong as SimulationTooLong
from .sim import SimWorld as SimWorld
from .sim import UnscheduledStep as UnscheduledStep
from .supervised import Feed as Feed
from .supervised import Restarted as Restarted
from .supervised import Supervised as Supervised
from .supervised import asked as asked
from .supervision import PERMANENT as PERMANENT
from .supervision import TEMPORARY as TEMPORARY
from .supervision import TRANSIENT as TRANSIENT
from .supervision import Restart as Restart
from .supervision import RestartIntensityExceeded as RestartIntensityExceeded
from .supervision import Supervision as Supervision
from .system import LOCAL as LOCAL
from .system import ActorStatus as ActorStatus
from .system import ActorSystem as ActorSystem
from .waiting import AskCycle as AskCycle
from .world import DeadlineExceeded as DeadlineExceeded
from .world import Event as Event
from .world import Nursery as Nursery
from .world import Signal as Signal
from .world import World as World
