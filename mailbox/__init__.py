"""Envelopes, mailboxes, overflow policies, channels and the message codec.

Everything here is a state machine or plain data: nothing waits, and nothing knows Trio.

- `message`: frozen attrs classes with a stable wire name, typed by their protocol
- `envelope`: a message on its way
- `mailbox`: bounded, with a lane for system messages and one for urgent ones; `overflow`: its policies
- `channel`: the two ends of a bounded, numbered, credit-controlled stream; `conflation`: what a writer keeps
  of each key while its reader is behind
- `following`: resuming a stream whose source breaks, or starting again from a snapshot
- `codec`: messages to msgpack and back; `structure`: what was decoded, checked against annotations
"""

from .channel import ChannelClosed as ChannelClosed
from .channel import ChannelFull as ChannelFull
from .channel import ReaderState as ReaderState
from .channel import WriterState as WriterState
from .codec import CodecError as CodecError
from .codec import Resolver as Resolver
from .codec import decode as decode
from .codec import encode as encode
from .conflation import CONFLATED_KEYS_MAX as CONFLATED_KEYS_MAX
from .envelope import Envelope as Envelope
from .envelope import Reply as Reply
from .envelope import Told as Told
from .envelope import envelope_of as envelope_of
from .following import Following as Following
from .following import FollowingStatistics as FollowingStatistics
from .following import Patience as Patience
from .following import Phase as Phase
from .following import PositionGone as PositionGone
from .following import SourceSilent as SourceSilent
from .following import Verdict as Verdict
from .following import verdict_on as verdict_on
from .mailbox import CAPACITY as CAPACITY
from .mailbox import Mailbox as Mailbox
from .mailbox import MailboxStatistics as MailboxStatistics
from .message import Message as Message
from .message import Refusal as Refusal
from .message import Request as Request
from .message import label as label
from .message import message as message
from .message import registered as registered
from .message import wire_name as wire_name
from .overflow import Conflate as Conflate
from .overflow import MailboxFull as MailboxFull
from .overflow import Overflow as Overflow
from .overflow import OverflowPolicy as OverflowPolicy
