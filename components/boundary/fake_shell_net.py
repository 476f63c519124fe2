"""The commands of the fake shell that use the pod's network: `wget`, `curl` and `nslookup`."""

from collections.abc import Callable, Generator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, urlsplit

from attrs import define, field

from .fake_effects import Effects, Failure, Fetch, Fetched, Lookup, Output
from .fake_shell_commands import Process

DEFAULT_TIMEOUT_SECONDS = 60.0


@define
class _Arguments:
    """Options with their values, and the other words."""

    options: dict[str, str] = field(factory=dict)
    headers: list[tuple[str, str]] = field(factory=list)
    words: list[str] = field(factory=list)


def _parse(arguments: list[str], with_value: str, long_with_value: tuple[str, ...]) -> _Arguments:
    """Short options may stand together (`-qO-`); those in `with_value` take the rest or the next word."""
    found = _Arguments()
    rest = list(arguments)

    def take(name: str, value: str) -> None:
        if name in ("H", "header"):
            key, _, text = value.partition(":")
            found.headers.append((key.strip().lower(), text.strip()))
        found.options[name] = value

    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name in long_with_value and not equals:
                value = rest.pop(0) if rest else ""
            take(name, value)
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            for position, letter in enumerate(letters):
                if letter in with_value:
                    value = letters[position + 1 :] or (rest.pop(0) if rest else "")
                    take(letter, value)
                    break
                take(letter, "")
        else:
            found.words.append(word)
    return found


def _url(text: str) -> SplitResult:
    return urlsplit(text if "://" in text else f"http://{text}")


def _fetch(
    url: SplitResult, method: str, headers: list[tuple[str, str]], body: bytes, agent: str, timeout: float
) -> Generator[Any, Any, Fetched]:
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    port = url.port or (443 if url.scheme == "https" else 80)
    sent = {"host": url.netloc, "user-agent": agent, "accept": "*/*"} | dict(headers)
    found = yield Fetch(url.hostname or "", port, method, path, tuple(sent.items()), body, timeout)
    assert isinstance(found, Fetched), found
    return found


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return DEFAULT_TIMEOUT_SECONDS


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""


def wget(process: Process, arguments: list[str]) -> Effects:
    """`wget [-q] [-O FILE] [-T SECONDS] [--spider] [--header H: V] [--post-data DATA] URL`, as in busybox."""
    given = _parse(arguments, "OTPU", ("header", "post-data", "timeout", "output-document"))
    if not given.words:
        yield Output(b"wget: missing URL\n", True)
        return 1
    url = _url(given.words[0])
    timeout = _seconds(given.options.get("T", given.options.get("timeout", "")))
    body = given.options.get("post-data", "").encode()
    method = "POST" if "post-data" in given.options else "HEAD" if "spider" in given.options else "GET"
    found = yield from _fetch(url, method, given.headers, body, "Wget", timeout)
    problem = {
        Failure.RESOLVE: f"bad address '{url.netloc}'",
        Failure.REFUSED: f"can't connect to remote host ({found.address}): Connection refused",
        Failure.TIMEOUT: "download timed out",
        None: "",
    }[found.failure]
    if not problem and found.status >= 400:
        problem = f"server returned error: HTTP/1.1 {found.status} {_phrase(found.status)}"
    if problem:
        yield Output(f"wget: {problem}\n".encode(), True)
        return 1
    if method == "HEAD":
        return 0
    target = given.options.get("O", given.options.get("output-document"))
    if target is None:
        target = url.path.rpartition("/")[2] or "index.html"
        if "q" not in given.options:
            yield Output(f"saving to '{target}'\n'{target}' saved\n".encode(), True)
    if target == "-":
        yield Output(found.body)
    else:
        process.files[target] = found.body
    return 0


_CURL_FAILURES = {Failure.RESOLVE: 6, Failure.REFUSED: 7, Failure.TIMEOUT: 28}


def curl(process: Process, arguments: list[str]) -> Effects:
    """`curl [-sSfI] [-o FILE] [-m SECONDS] [-X METHOD] [-H 'H: V'] [-d DATA] URL`."""
    long = ("header", "data", "request", "max-time", "output", "connect-timeout", "retry", "write-out")
    given = _parse(arguments, "oXHdmwA", long)
    if not given.words:
        yield Output(b"curl: no URL specified!\n", True)
        return 2
    url = _url(given.words[0])
    options = given.options
    data = options.get("d", options.get("data"))
    method = options.get("X", options.get("request", "POST" if data is not None else "GET"))
    if "I" in options or "head" in options:
        method = "HEAD"
    timeout = _seconds(options.get("m", options.get("max-time", "")))
    found = yield from _fetch(url, method, given.headers, (data or "").encode(), "curl/8.10.1", timeout)
    port = url.port or (443 if url.scheme == "https" else 80)
    problem, code = "", 0
    if found.failure is not None:
        code = _CURL_FAILURES[found.failure]
        problem = {
            Failure.RESOLVE: f"Could not resolve host: {url.hostname}",
            Failure.REFUSED: f"Failed to connect to {url.hostname} port {port}: Connection refused",
            Failure.TIMEOUT: f"Connection timed out after {timeout * 1000:.0f} milliseconds",
        }[found.failure]
    elif found.status >= 400 and ("f" in options or "fail" in options):
        code, problem = 22, f"The requested URL returned error: {found.status}"
    if problem:
        silent = ("s" in options or "silent" in options) and "S" not in options
        if not silent:
            yield Output(f"curl: ({code}) {problem}\n".encode(), True)
        return code
    target = options.get("o", options.get("output"))
    if method == "HEAD":
        yield Output(f"HTTP/1.1 {found.status} {_phrase(found.status)}\r\n\r\n".encode())
    elif target is None or target == "-":
        yield Output(found.body)
    elif target != "/dev/null":
        process.files[target] = found.body
    written = options.get("w", options.get("write-out", ""))
    if written:
        text = written.replace("%{http_code}", str(found.status)).replace("\\n", "\n")
        yield Output(text.encode())
    return 0


def nslookup(_: Process, arguments: list[str]) -> Effects:
    """`nslookup NAME`."""
    words = [argument for argument in arguments if not argument.startswith("-")]
    if not words:
        yield Output(b"nslookup: missing name\n", True)
        return 1
    addresses = yield Lookup(words[0])
    if not addresses:
        yield Output(f"** server can't find {words[0]}: NXDOMAIN\n".encode(), True)
        return 1
    for address in addresses:
        yield Output(f"Name:\t{words[0]}\nAddress: {address}\n".encode())
    return 0


NETWORK_COMMANDS: Mapping[str, Callable[[Process, list[str]], Effects]] = {
    "wget": wget,
    "curl": curl,
    "nslookup": nslookup,
}
