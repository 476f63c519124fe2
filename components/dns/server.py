"""DNS messages in, DNS messages out; sans-I/O.

`Server.answer` gives the answer's bytes; :class:`Forward` when the question is for an upstream (ask it
and send on what `forwarded` makes of its answer, or `failed` when nobody answers); or None when the bytes
are nothing that may be answered. Answers over UDP fit the size the client can take (RFC 6891), else they
are cut short and marked TC. Rules: RFC 1035, RFC 2308 (negative answers), RFC 6891 (EDNS), RFC 8020.
"""

from collections.abc import Sequence
from struct import unpack_from
from typing import Literal

from attrs import Factory, define, frozen
from dnslib import (
    AAAA,
    CNAME,
    NS,
    OPCODE,
    PTR,
    QTYPE,
    RCODE,
    RR,
    SOA,
    SRV,
    TXT,
    A,
    DNSError,
    DNSHeader,
    DNSLabel,
    DNSRecord,
)

from understudy.components.dns.zone import Answer, Code, Name, Record, Srv, Zone

Transport = Literal["udp", "tcp"]

HEADER_BYTES = 12
UDP_BYTES_MIN = 512
UDP_BYTES_MAX = 1232
"""What we take over UDP, and give at most: it fits one packet on every link (DNS flag day 2020)."""
TCP_BYTES_MAX = 65535
NAME_CHARS_MAX = 253
"""With dots between the labels: 255 octets on the wire. The parser lets longer names through."""

_BADVERS = 16
_CLASS_IN, _CLASS_ANY = 1, 255


@frozen
class Forward:
    """The question is for an upstream."""

    query: bytes
    prefix: tuple[Record, ...] = ()
    """What the zone knows already: the CNAMEs that led out of it."""
    original: bytes = b""
    """The client's own query; it differs from `query` when a CNAME was followed."""


@frozen
class _Edns:
    size: int
    """The largest answer the client takes over UDP, in bytes."""
    dnssec_ok: bool


@define(eq=False)
class Server:
    """Answers for a zone. `has_upstream` False refuses what the zone does not hold."""

    zone: Zone
    ttl_seconds: int = 30
    """As kubeadm configures CoreDNS."""
    serial: int = 1
    """Of the zone's SOA; the owner counts it up, CoreDNS takes the time."""
    has_upstream: bool = False
    statistics: dict[str, int] = Factory(dict)
    """How often each response code was answered."""

    def answer(self, query: bytes, transport: Transport) -> bytes | Forward | None:
        """What to send back for a query, or whom to ask."""
        if len(query) < HEADER_BYTES:
            return None
        flags = unpack_from("!H", query, 2)[0]
        if flags & 0x8000:
            return None  # Answering answers would let two servers talk for ever.
        try:
            parsed = DNSRecord.parse(query)
        except (DNSError, ValueError):
            return self._header_only(query, RCODE.FORMERR)
        if parsed.header.get_opcode() != OPCODE.QUERY:
            return self._header_only(query, RCODE.NOTIMP)
        options = [record for record in parsed.ar if record.rtype == QTYPE.OPT]
        if len(parsed.questions) != 1 or len(options) > 1 or len(parsed.questions[0].qname) > NAME_CHARS_MAX:
            return self._header_only(query, RCODE.FORMERR)
        edns = None
        if options:
            edns = _Edns(max(UDP_BYTES_MIN, options[0].rclass), bool(options[0].ttl & 0x8000))
            if (options[0].ttl >> 16) & 0xFF:
                return self._send(_reply(parsed, 0), edns, transport, _BADVERS)
        return self._resolve(query, parsed, edns, transport)

    def forwarded(self, forward: Forward, upstream: bytes, transport: Transport) -> bytes:
        """What to send the client for an upstream's answer."""
        query = DNSRecord.parse(forward.original or forward.query)
        if not forward.prefix:
            return upstream if _fits(upstream, query, transport) else self._cut(query, upstream, transport)
        edns = _edns(query)
        try:
            further = DNSRecord.parse(upstream)
        except (DNSError, ValueError):
            return self.failed(forward, transport)
        reply = _reply(query, further.header.rcode, authoritative=False)
        reply.add_answer(*self._records(forward.prefix), *further.rr)
        return self._send(reply, edns, transport)

    def failed(self, forward: Forward, transport: Transport) -> bytes:
        """What to send the client when no upstream answers."""
        query = DNSRecord.parse(forward.original or forward.query)
        return self._send(_reply(query, RCODE.SERVFAIL, authoritative=False), _edns(query), transport)

    def _resolve(
        self, query: bytes, parsed: DNSRecord, edns: _Edns | None, transport: Transport
    ) -> bytes | Forward:
        question = parsed.questions[0]
        name = _labels(question.qname)
        if question.qclass not in (_CLASS_IN, _CLASS_ANY):
            return self._send(_reply(parsed, RCODE.REFUSED, authoritative=False), edns, transport)
        rtype = str(QTYPE.get(question.qtype))
        if name == self.zone.cluster_domain and rtype in ("SOA", "NS", "ANY"):
            return self._apex(parsed, rtype, edns, transport)
        found = self.zone.lookup(name, rtype)
        if found is None:
            if self.has_upstream:
                return Forward(query)
            return self._send(_reply(parsed, RCODE.REFUSED, authoritative=False), edns, transport)
        if found.outside is not None and self.has_upstream:
            onward = DNSRecord(DNSHeader(id=parsed.header.id, rd=1))
            onward.add_question(type(question)(DNSLabel(list(_wire(found.outside))), question.qtype))
            return Forward(onward.pack(), found.answers, query)
        return self._authoritative(parsed, found, edns, transport)

    def _authoritative(
        self, parsed: DNSRecord, found: Answer, edns: _Edns | None, transport: Transport
    ) -> bytes:
        asked = parsed.questions[0].qname
        reply = _reply(parsed, RCODE.NXDOMAIN if found.code is Code.NXDOMAIN else RCODE.NOERROR)
        # The client sees its own spelling of the name it asked for, capitals and all.
        reply.add_answer(*self._records(found.answers, {_labels(asked): asked}))
        reply.add_ar(*self._records(found.additional))
        if not found.answers:
            reply.add_auth(self._soa())
        return self._send(reply, edns, transport)

    def _apex(self, parsed: DNSRecord, rtype: str, edns: _Edns | None, transport: Transport) -> bytes:
        reply = _reply(parsed, RCODE.NOERROR)
        domain = DNSLabel(list(_wire(self.zone.cluster_domain)))
        if rtype in ("SOA", "ANY"):
            reply.add_answer(self._soa())
        if rtype in ("NS", "ANY"):
            server = NS(DNSLabel([b"ns", b"dns", *_wire(self.zone.cluster_domain)]))
            reply.add_answer(RR(domain, QTYPE.NS, ttl=self.ttl_seconds, rdata=server))
        return self._send(reply, edns, transport)

    def _soa(self) -> RR:
        domain = _wire(self.zone.cluster_domain)
        times = (self.serial & 0xFFFFFFFF, 7200, 1800, 86400, self.ttl_seconds)
        data = SOA(DNSLabel([b"ns", b"dns", *domain]), DNSLabel([b"hostmaster", *domain]), times)
        return RR(DNSLabel(list(domain)), QTYPE.SOA, ttl=self.ttl_seconds, rdata=data)

    def _records(self, records: Sequence[Record], spelling: dict[Name, DNSLabel] | None = None) -> list[RR]:
        spelled = spelling or {}
        return [
            RR(
                spelled.get(record.name, DNSLabel(list(_wire(record.name)))),
                getattr(QTYPE, record.type),
                ttl=self.ttl_seconds,
                rdata=_rdata(record),
            )
            for record in records
        ]

    def _header_only(self, query: bytes, rcode: int) -> bytes:
        """A header with the query's id: all that can be said of a question that cannot be read."""
        identity, flags = unpack_from("!HH", query)
        header = DNSHeader(id=identity, qr=1, aa=0, ra=0, rd=(flags >> 8) & 1, opcode=(flags >> 11) & 0xF)
        header.rcode = rcode
        self._count(rcode)
        return bytes(DNSRecord(header).pack())

    def _count(self, rcode: int) -> None:
        name = "BADVERS" if rcode == _BADVERS else str(RCODE.get(rcode))
        self.statistics[name] = self.statistics.get(name, 0) + 1

    def _send(
        self, reply: DNSRecord, edns: _Edns | None, transport: Transport, extended_rcode: int = 0
    ) -> bytes:
        self._count(extended_rcode or reply.header.rcode)
        if edns is not None:
            ttl = (extended_rcode >> 4) << 24 | (0x8000 if edns.dnssec_ok else 0)
            reply.header.rcode = extended_rcode & 0xF if extended_rcode else reply.header.rcode
            reply.add_ar(RR(DNSLabel([]), QTYPE.OPT, rclass=UDP_BYTES_MAX, ttl=ttl, rdata=[]))
        return _shortened(reply, _limit(edns, transport))

    def _cut(self, query: DNSRecord, upstream: bytes, transport: Transport) -> bytes:
        """An upstream's answer that is too long for the client, as an empty answer marked TC."""
        reply = _reply(query, unpack_from("!H", upstream, 2)[0] & 0xF, authoritative=False)
        reply.header.tc = 1
        return self._send(reply, _edns(query), transport)


def _reply(query: DNSRecord, rcode: int, authoritative: bool = True) -> DNSRecord:
    header = DNSHeader(id=query.header.id, qr=1, aa=int(authoritative), ra=0, rd=query.header.rd)
    header.rcode = rcode
    return DNSRecord(header, questions=list(query.questions))


def _edns(query: DNSRecord) -> _Edns | None:
    for record in query.ar:
        if record.rtype == QTYPE.OPT:
            return _Edns(max(UDP_BYTES_MIN, record.rclass), bool(record.ttl & 0x8000))
    return None


def _limit(edns: _Edns | None, transport: Transport) -> int:
    if transport == "tcp":
        return TCP_BYTES_MAX
    return UDP_BYTES_MIN if edns is None else min(edns.size, UDP_BYTES_MAX)


def _fits(answer: bytes, query: DNSRecord, transport: Transport) -> bool:
    return len(answer) <= _limit(_edns(query), transport)


def _shortened(reply: DNSRecord, limit: int) -> bytes:
    """The reply's bytes, cut to the limit: first the additional records go, then answers, with TC set."""
    packed = bytes(reply.pack())
    if len(packed) <= limit:
        return packed
    options = [record for record in reply.ar if record.rtype == QTYPE.OPT]
    reply.ar = options
    kept, reply.auth = list(reply.rr), []
    low, high = 0, len(kept)
    packed = _with_answers(reply, kept, high)
    if len(packed) <= limit:
        return packed
    reply.header.tc = 1
    while low < high:
        middle = (low + high + 1) // 2
        if len(_with_answers(reply, kept, middle)) <= limit:
            low = middle
        else:
            high = middle - 1
    return _with_answers(reply, kept, low)


def _with_answers(reply: DNSRecord, records: list[RR], count: int) -> bytes:
    reply.rr = records[:count]
    reply.set_header_qa()
    return bytes(reply.pack())


def _labels(name: DNSLabel) -> Name:
    """Lower-case labels. Bytes beyond ASCII are kept one to one; no cluster name has any."""
    return tuple(part.decode("latin-1").lower() for part in name.label)


def _wire(name: Name) -> tuple[bytes, ...]:
    return tuple(label.encode("latin-1") for label in name)


def _rdata(record: Record) -> A | AAAA | CNAME | PTR | SRV | TXT:
    data = record.data
    if isinstance(data, Srv):
        return SRV(data.priority, data.weight, data.port, DNSLabel(list(_wire(data.target))))
    if isinstance(data, tuple):
        target = DNSLabel(list(_wire(data)))
        return CNAME(target) if record.type == "CNAME" else PTR(target)
    if record.type == "TXT":
        return TXT(data)
    return AAAA(data) if record.type == "AAAA" else A(data)
