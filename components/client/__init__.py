"""The API client, informers, work queues and event recorders: how components meet the API server."""

from .client import Client as Client
from .client import ObjectList as ObjectList
from .client import WatchEvent as WatchEvent
from .events import EventRecorder as EventRecorder
from .informer import Change as Change
from .informer import Informer as Informer
from .informer import Informers as Informers
from .readonly import ReadOnlyError as ReadOnlyError
from .readonly import mutable as mutable
from .readonly import read_only as read_only
from .transport import ActorTransport as ActorTransport
from .transport import Transport as Transport
from .workqueue import QueueClosed as QueueClosed
from .workqueue import WorkQueue as WorkQueue
