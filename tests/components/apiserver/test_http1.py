"""HTTP/1.1 framing: what a connection's bytes mean does not depend on how they were cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.apiserver.http1 import Request, RequestReader, answer_head, chunk
from understudy.components.machinery.errors import ApiError

GET = b"GET /api/v1/pods?watch=1&labelSelector=a%3Db HTTP/1.1\r\nHost: h\r\nAccept: x\r\n\r\n"
POST = b"POST /api HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT /api HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)
UPGRADE = (
    b"POST /exec HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"Content-Length: 4\r\n\r\nbody"
)


def read(*pieces: bytes, **limits: int) -> tuple[list[Request], ApiError | None]:
    reader = RequestReader(**limits)
    requests: list[Request] = []
    for piece in pieces:
        reader.feed(piece)
    try:
        while (request := reader.next()) is not None:
            requests.append(request)
    except ApiError as error:
        return requests, error
    return requests, None


def refusal(data: bytes, **limits: int) -> ApiError:
    requests, error = read(data, **limits)
    assert not requests
    assert error is not None
    return error


def test_a_request_is_decoded() -> None:
    requests, _ = read(GET)
    assert requests == [
        Request(
            "GET",
            "/api/v1/pods",
            (("watch", "1"), ("labelSelector", "a=b")),
            (("host", "h"), ("accept", "x")),
            b"",
            True,
            True,
        )
    ]


@given(
    st.lists(st.sampled_from([GET, POST, CHUNKED]), min_size=1, max_size=5),
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=20),
)
def test_the_cuts_between_reads_do_not_matter(messages: list[bytes], upgrade: bool, cuts: list[int]) -> None:
    whole = b"".join(messages) + (UPGRADE if upgrade else b"")
    ends = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    pieces = [whole[a:b] for a, b in pairwise(ends)]
    assert read(*pieces) == read(whole)
    assert len(read(whole)[0]) == len(messages) + upgrade


@given(st.binary(max_size=300), st.integers(0, 300))
def test_no_bytes_break_the_reader(noise: bytes, at: int) -> None:
    data = GET + POST
    requests, error = read(data[:at] + noise + data[at:])
    assert len(requests) <= 2 + noise.count(b"\n")
    assert error is None or error.code in (400, 413, 417, 431)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", "/"),
        (b"/version/", "/version"),
        (
            b"/api/v1/namespaces/default/services/a:80/proxy/",
            "/api/v1/namespaces/default/services/a:80/proxy/",
        ),
        (b"/apis//", "/apis"),
        (b"/a%20b%2Fc", "/a b/c"),
        (b"/%C3%A4", "/\u00e4"),
        (b"http://h:80/api?x", "/api"),
        (b"http://h", "/"),
    ],
)
def test_paths(target: bytes, path: str) -> None:
    requests, _ = read(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [request.path for request in requests] == [path]


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /%+1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /?a=%ff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /api HTTP/1.1\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_malformed_requests_are_refused_with_400(data: bytes) -> None:
    assert refusal(data).code == 400


def test_what_came_before_a_malformed_request_is_still_answered() -> None:
    requests, error = read(GET + POST + b"\0\0\0\0" + GET)
    assert [request.method for request in requests] == ["GET", "POST"]
    assert error is not None
    assert error.code == 400


def test_the_body_limit_holds_for_both_framings() -> None:
    assert read(POST, body_bytes_max=5)[0][0].body == b"hello"
    assert refusal(POST, body_bytes_max=4).code == 413
    assert read(CHUNKED, body_bytes_max=5)[0][0].body == b"abcde"
    assert refusal(CHUNKED, body_bytes_max=4).code == 413
    announced = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999999\r\n\r\n"
    assert refusal(announced).code in (400, 413)


@given(st.integers(1, 50))
def test_the_head_limit_holds_however_slowly_it_comes(size: int) -> None:
    head = b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: h\r\nX: " + b"b" * 300
    for part in (head, b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 100, b"GET /" + b"a" * 600):
        pieces = [part[at : at + size] for at in range(0, len(part), size)]
        requests, error = read(*pieces, head_bytes_max=400)
        assert not requests
        assert error is not None
        assert error.code == 431


def test_a_client_that_waits_for_continue_is_noticed() -> None:
    reader = RequestReader()
    head = b"POST /api HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    reader.feed(head)
    assert reader.wants_continue
    assert reader.next() is None
    reader.feed(b"ok")
    assert not reader.wants_continue
    request = reader.next()
    assert request is not None
    assert request.body == b"ok"
    assert refusal(head.replace(b"100-continue", b"a miracle")).code == 417
    eager = RequestReader(body_bytes_max=1)
    eager.feed(head)
    assert not eager.wants_continue, "a body that will be refused is not asked for"


def test_nothing_is_read_behind_the_last_request() -> None:
    last = GET.replace(b"Accept: x", b"Connection: close")
    requests, error = read(last + GET)
    assert [request.keep_alive for request in requests] == [False]
    assert error is None
    requests, error = read(UPGRADE + b"\x80\x03binary")
    assert [(request.body, request.keep_alive) for request in requests] == [(b"body", False)]
    assert error is None


def test_http_1_0_has_no_chunks_and_needs_no_host() -> None:
    requests, _ = read(b"GET / HTTP/1.0\r\n\r\n")
    assert [(request.chunks, request.keep_alive) for request in requests] == [(False, False)]


def test_an_answer_cannot_be_split_by_a_header_value() -> None:
    head = answer_head(
        200,
        (("Warning", '299 - "evil\r\nSet-Cookie: x"'), ("content-length", "7")),
        date="D",
        length=3,
        chunked=False,
        keep_alive=True,
    )
    assert head == (
        b'HTTP/1.1 200 OK\r\nDate: D\r\nWarning: 299 - "evil  Set-Cookie: x"\r\nContent-Length: 3\r\n\r\n'
    )


def test_an_empty_chunk_does_not_end_the_body() -> None:
    assert chunk(b"") == b""
    assert chunk(b"0123456789abcdef0") == b"11\r\n0123456789abcdef0\r\n"
