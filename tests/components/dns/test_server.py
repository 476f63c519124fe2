"""DNS on the wire: what a client such as dig is answered, and what bad bytes are."""

from typing import Any

import pytest
from dnslib import CLASS, EDNS0, OPCODE, QTYPE, RCODE, DNSHeader, DNSQuestion, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.components.dns.server import Forward, Server
from understudy.components.dns.zone import Zone


def make_server(endpoints: int = 3, **options: Any) -> Server:
    zone = Zone()
    zone.set_namespace("default")
    meta = {"name": "web", "namespace": "default"}
    zone.set_service({"metadata": meta, "spec": {"clusterIP": "10.96.0.7"}})
    zone.set_service({"metadata": meta | {"name": "db"}, "spec": {"clusterIP": "None"}})
    out = {"type": "ExternalName", "externalName": "example.org"}
    zone.set_service({"metadata": meta | {"name": "out"}, "spec": out})
    zone.set_slice(
        {
            "metadata": {"name": "s", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [f"10.0.{i // 250}.{i % 250 + 1}"]} for i in range(endpoints)],
            "ports": [{"port": 80}],
        }
    )
    return Server(zone, **options)


def query(name: str, rtype: str = "A", size: int | None = None, version: int = 0) -> DNSRecord:
    made = DNSRecord.question(name, rtype)
    if size is not None:
        made.add_ar(EDNS0(udp_len=size, version=version))
    return made


def ask(server: Server, question: DNSRecord, transport: Any = "udp") -> DNSRecord:
    answered = server.answer(question.pack(), transport)
    assert isinstance(answered, bytes)
    reply = DNSRecord.parse(answered)
    assert (reply.header.id, reply.header.qr) == (question.header.id, 1)
    return reply


def test_an_answer_is_authoritative_and_keeps_the_spelling_of_the_question() -> None:
    reply = ask(make_server(), query("Web.Default.svc.cluster.LOCAL"))
    assert (reply.header.aa, reply.header.ra, reply.header.rcode) == (1, 0, RCODE.NOERROR)
    assert [(str(r.rname), str(r.rdata), r.ttl) for r in reply.rr] == [
        ("Web.Default.svc.cluster.LOCAL.", "10.96.0.7", 30)
    ]


@pytest.mark.parametrize(
    ("name", "rtype", "rcode"),
    [
        ("web.default.svc.cluster.local", "AAAA", RCODE.NOERROR),
        ("nope.default.svc.cluster.local", "A", RCODE.NXDOMAIN),
    ],
)
def test_negative_answers_carry_the_soa(name: str, rtype: str, rcode: int) -> None:
    reply = ask(make_server(serial=42), query(name, rtype))
    assert (reply.header.rcode, reply.rr) == (rcode, [])
    (soa,) = reply.auth
    assert (str(soa.rname), soa.rtype, soa.rdata.times[0]) == ("cluster.local.", QTYPE.SOA, 42)


def test_the_apex() -> None:
    server = make_server()
    assert str(ask(server, query("cluster.local", "NS")).rr[0].rdata) == "ns.dns.cluster.local."
    assert ask(server, query("cluster.local", "SOA")).rr[0].rtype == QTYPE.SOA


def test_every_kind_of_record_survives_the_wire() -> None:
    server = make_server(endpoints=1)
    assert str(ask(server, query("db.default.svc.cluster.local", "SRV")).rr[0].rdata) == (
        "0 100 80 10-0-0-1.db.default.svc.cluster.local."
    )
    assert str(ask(server, query("7.0.96.10.in-addr.arpa", "PTR")).rr[0].rdata) == (
        "web.default.svc.cluster.local."
    )
    assert str(ask(server, query("out.default.svc.cluster.local")).rr[0].rdata) == "example.org."
    assert str(ask(server, query("dns-version.cluster.local", "TXT")).rr[0].rdata) == '"1.1.0"'
    assert str(ask(server, query("fd00--5.default.pod.cluster.local", "AAAA")).rr[0].rdata) == "fd00::5"


@pytest.mark.parametrize(
    ("size", "transport", "limit", "truncated"),
    [
        (None, "udp", 512, True),
        (100, "udp", 512, True),
        (1232, "udp", 1232, True),
        (65535, "udp", 1232, True),
        (None, "tcp", 65535, False),
    ],
)
def test_an_answer_fits_what_the_client_can_take(
    size: int | None, transport: Any, limit: int, truncated: bool
) -> None:
    server = make_server(endpoints=300)
    question = query("db.default.svc.cluster.local", size=size)
    packed = server.answer(question.pack(), transport)
    assert isinstance(packed, bytes)
    reply = DNSRecord.parse(packed)
    assert len(packed) <= limit
    assert reply.header.tc == int(truncated)
    if truncated:
        assert limit - 16 < len(packed), "as many answers as fit"
    else:
        assert len(reply.rr) == 300
    assert [r.rtype for r in reply.ar] == ([] if size is None else [QTYPE.OPT])


def test_edns_of_a_version_we_do_not_know() -> None:
    reply = ask(make_server(), query("web.default.svc.cluster.local", size=1232, version=1))
    (option,) = reply.ar
    assert (reply.rr, reply.header.rcode, option.ttl >> 24) == ([], 0, 1)


def test_who_else_is_asked() -> None:
    refusing = make_server()
    assert ask(refusing, query("example.org")).header.rcode == RCODE.REFUSED
    server, question = make_server(has_upstream=True), query("example.org")
    forward = server.answer(question.pack(), "udp")
    assert forward == Forward(question.pack())
    assert isinstance(forward, Forward)
    failed = DNSRecord.parse(server.failed(forward, "udp"))
    assert (failed.header.rcode, failed.header.id) == (RCODE.SERVFAIL, question.header.id)
    upstream = question.replyZone("example.org 60 A 192.0.2.1").pack()
    assert server.forwarded(forward, upstream, "udp") == upstream
    large = question.replyZone("\n".join(f"example.org 60 A 192.0.2.{i}" for i in range(60))).pack()
    cut = DNSRecord.parse(server.forwarded(forward, large, "udp"))
    assert (cut.header.tc, cut.rr) == (1, [])
    assert server.forwarded(forward, large, "tcp") == large


def test_an_external_name_is_resolved_by_the_upstream() -> None:
    server, question = make_server(has_upstream=True), query("out.default.svc.cluster.local")
    forward = server.answer(question.pack(), "udp")
    assert isinstance(forward, Forward)
    onward = DNSRecord.parse(forward.query)
    assert str(onward.q.qname) == "example.org."
    upstream = onward.replyZone("example.org 60 A 192.0.2.1").pack()
    reply = DNSRecord.parse(server.forwarded(forward, upstream, "udp"))
    assert [str(r.rdata) for r in reply.rr] == ["example.org.", "192.0.2.1"]
    assert (reply.header.id, str(reply.q.qname)) == (question.header.id, "out.default.svc.cluster.local.")


def test_other_questions() -> None:
    server = make_server()
    chaos = DNSRecord(q=DNSQuestion("version.bind", QTYPE.TXT, CLASS.CH))
    assert ask(server, chaos).header.rcode == RCODE.REFUSED
    notify = DNSRecord(DNSHeader(opcode=OPCODE.UPDATE), q=DNSQuestion("x"))
    assert ask(server, notify).header.rcode == RCODE.NOTIMP
    two = DNSRecord(DNSHeader(), questions=[DNSQuestion("a"), DNSQuestion("b")])
    assert ask(server, two).header.rcode == RCODE.FORMERR
    assert ask(server, DNSRecord(DNSHeader())).header.rcode == RCODE.FORMERR
    assert server.statistics == {"REFUSED": 1, "NOTIMP": 1, "FORMERR": 2}


@pytest.mark.parametrize(("chars", "rcode"), [(253, RCODE.NXDOMAIN), (254, RCODE.FORMERR)])
def test_a_name_is_at_most_255_octets_on_the_wire(chars: int, rcode: int) -> None:
    labels = [b"a" * 62] * 3 + [b"b" * (chars - 3 * 63 - len(".cluster.local"))] + [b"cluster", b"local"]
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    packet = b"\x00\x07\x00\x00\x00\x01" + bytes(6) + name + b"\x00\x01\x00\x01"
    answered = make_server().answer(packet, "udp")
    assert isinstance(answered, bytes)
    assert DNSRecord.parse(answered).header.rcode == rcode


def test_what_is_not_a_query_gets_no_answer() -> None:
    server = make_server()
    assert server.answer(b"", "udp") is None
    assert server.answer(b"\x00" * 11, "udp") is None
    assert server.answer(query("web.default.svc.cluster.local").reply().pack(), "udp") is None


GOOD = query("web.default.svc.cluster.local", size=1232).pack()


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(min_size=12, max_size=80),
        st.builds(
            lambda index, value: GOOD[:index] + bytes([value]) + GOOD[index + 1 :],
            st.integers(0, len(GOOD) - 1),
            st.integers(0, 255),
        ),
        st.integers(12, len(GOOD)).map(lambda length: GOOD[:length]),
    )
)
def test_any_bytes_get_a_well_formed_answer_or_none(packet: bytes) -> None:
    answered = make_server().answer(packet, "udp")
    assert not isinstance(answered, Forward)
    if packet[2] & 0x80:
        assert answered is None
    else:
        assert answered is not None
        assert answered[:2] == packet[:2]
        DNSRecord.parse(answered)
