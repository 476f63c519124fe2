"""Recorded exchanges with a real API server, replayed against ours, in process and in virtual time.

Expectations hold placeholders: `{{uid}}` stands for some UID, the same one wherever it appears in a scenario.
What may differ from the recording: the wording of `message` fields and warnings, the order of managed fields,
of conflict causes and of warnings, and bookmarks that come by the clock.

`python tests/golden/replaying.py [-v] [-k TEXT]` counts and shows what fails; `--write` then makes the list
of what has to pass from now on.
"""

import base64
import json
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from understudy.actors import ActorSystem, ChannelReader, DeadlineExceeded, EndOfChannel, Ref, SimWorld
from understudy.components.apiserver.server import ApiServer, ApiServerOptions
from understudy.components.boundary.fake_podnet import FakePodNetwork
from understudy.components.machinery.api import ApiRequest, ApiResponse, ApiServing, PeerIdentity
from understudy.raftstore.memory import memory_store

MUST_PASS = Path(__file__).resolve().parents[1] / "components" / "apiserver" / "golden_pass.txt"
ADMINISTRATOR = PeerIdentity("admin", ("system:masters",))
USER_AGENT = "golden/1.0"
SHOWN_HEADERS = ("content-type", "warning", "retry-after", "location")
STREAM_CAPACITY = 10_000
WATCH_SECONDS = 60.0
"""How long a recorded watch may last until the server ends it."""
EVENT_SECONDS = 20.0
"""How long the next events of an open watch may take."""
SETTLE_SECONDS = 0.2
COMPACTED_AFTER_SECONDS = 900.0
"""After so long the server has compacted its first revisions away."""

_PLACEHOLDER = re.compile(r"\{\{([a-z]+)(?::(\w+))?\}\}")
_KINDS = {
    "uid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    **dict.fromkeys(("rv", "lrv", "int", "num"), r"\d+"),
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "microtime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
    "gen": r"[a-z0-9]{5}",
    "ip": r"[0-9a-f.:]+",
    "jwt": r"[\w-]+\.[\w-]+\.[\w-]+",
    "cont": r"[\w=-]+",
    "hex": r"[0-9a-f]+",
    "age": r"(?:<invalid>|\d+[smhdy](?:\d+[smhd])?)",
    "any": r"(?s:.*)",
}
_FREE = frozenset(("time", "microtime", "any", "num", "hex", "age"))
"""Placeholders that stand for something else each time."""
_NUMBERS = frozenset(("int", "num"))


@frozen
class Scenario:
    """Exchanges that follow one another in a namespace of their own."""

    identifier: str
    area: str
    exchanges: tuple[dict[str, Any], ...]
    cleanup: tuple[str, ...]
    alone: bool
    """Changes or looks at the whole cluster."""
    needs_compaction: bool


def scenarios(facts_dir: Path) -> Iterator[Scenario]:
    """All that were recorded; those that need a compacted store last."""
    late = []
    for file in sorted((facts_dir / "kubernetes" / "golden").glob("*.json")):
        for told in json.loads(file.read_text())["scenarios"]:
            scenario = Scenario(
                told["id"],
                told["area"],
                tuple(told["exchanges"]),
                tuple(told.get("cleanup", ())),
                bool(told.get("serial")),
                told.get("needs") == "compacted",
            )
            if scenario.needs_compaction:
                late.append(scenario)
            else:
                yield scenario
    yield from late


# -- comparing


@define
class Bindings:
    """What the placeholders of a scenario stand for."""

    bound: dict[str, str]
    now: str = ""

    def fill(self, value: Any) -> Any:
        """A request, with what is bound filled in."""
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if not isinstance(value, str) or "{{" not in value:
            return value
        whole = _PLACEHOLDER.fullmatch(value)
        if whole and whole[1] in _NUMBERS:
            return int(self.bound.get(value[2:-2], 0))
        return _PLACEHOLDER.sub(self._one, value)

    def _one(self, found: re.Match[str]) -> str:
        if found[1] == "time":
            return self.now
        if found[1] == "microtime":
            return self.now.replace("Z", ".000000Z")
        return self.bound.get(found[0][2:-2], found[0])

    def fits(self, expected: str, actual: str) -> bool:
        """Whether a text is as expected; binds the placeholders that are met for the first time."""
        pattern, position = "", 0
        groups: dict[str, str] = {}
        for found in _PLACEHOLDER.finditer(expected):
            pattern += re.escape(expected[position : found.start()])
            position = found.end()
            name, kind = found[0][2:-2], found[1]
            if name in self.bound:
                pattern += re.escape(self.bound[name])
            elif name in groups:
                pattern += f"(?P={groups[name]})"
            elif kind in _FREE:
                pattern += f"(?:{_KINDS[kind]})"
            else:
                groups[name] = f"p{len(groups)}"
                pattern += f"(?P<{groups[name]}>{_KINDS[kind]})"
        matched = re.fullmatch(pattern + re.escape(expected[position:]), actual)
        if matched is None:
            return False
        self.bound |= {name: matched[group] for name, group in groups.items()}
        return True

    def differences(self, expected: Any, actual: Any, path: str = "$") -> list[str]:
        """Each place where an answer is not as recorded."""
        if isinstance(expected, str) and isinstance(actual, str) and _is_wording(path):
            return [] if bool(expected) == bool(actual) else [_told(path, actual, expected)]
        if isinstance(expected, dict) and isinstance(actual, dict):
            return self._in_objects(expected, actual, path)
        if isinstance(expected, list) and isinstance(actual, list):
            return self._in_lists(expected, actual, path)
        if isinstance(expected, str) and "{{" in expected:
            whole = _PLACEHOLDER.fullmatch(expected)
            number = whole and whole[1] in _NUMBERS and type(actual) is int
            text = str(actual) if number else actual
            fits = isinstance(text, str) and self.fits(expected, text)
            return [] if fits else [_told(path, actual, self.fill(expected))]
        same = expected == actual and isinstance(expected, bool) == isinstance(actual, bool)
        return [] if same else [_told(path, actual, expected)]

    def _in_objects(self, expected: dict[str, Any], actual: dict[str, Any], path: str) -> list[str]:
        found = []
        filled = {self.fill(key): item for key, item in expected.items()}
        # Metadata first: it binds what others mention.
        for key in sorted({*filled, *actual}, key=lambda key: (key != "metadata", key)):
            place = f"{path}.{key}"
            if key not in filled:
                found.append(f"{place}: unexpected {_short(actual[key])}")
            elif key not in actual:
                found.append(f"{place}: missing, expected {_short(filled[key])}")
            else:
                found += self.differences(filled[key], actual[key], place)
        return found

    def _in_lists(self, expected: list[Any], actual: list[Any], path: str) -> list[str]:
        expected, actual = _ordered(expected, actual, path)
        found = []
        if len(expected) != len(actual):
            found.append(f"{path}: {len(actual)} elements, expected {len(expected)}: {_short(actual)}")
        for index, (wanted, got) in enumerate(zip(expected, actual, strict=False)):
            found += self.differences(wanted, got, f"{path}[{index}]")
        return found


def _is_wording(path: str) -> bool:
    return path.endswith(".message") or path.startswith("$headers.warning")


def _ordered(expected: list[Any], actual: list[Any], path: str) -> tuple[list[Any], list[Any]]:
    """Both lists, in one order where the server has none of its own."""
    if path == "$.$watch":
        return _without_clockwork(expected), _without_clockwork(actual)
    if path == "$headers.warning":
        return sorted(expected), sorted(actual)
    if path.endswith(".managedFields"):
        return sorted(expected, key=_owner), sorted(actual, key=_owner)
    contested = path.endswith(".details.causes") and all(
        cause.get("reason") == "FieldManagerConflict" for cause in [*expected, *actual]
    )
    if contested:
        return sorted(expected, key=_contested), sorted(actual, key=_contested)
    return expected, actual


def _owner(entry: dict[str, Any]) -> list[str]:
    return [entry.get(name, "") for name in ("manager", "operation", "subresource", "apiVersion")]


def _contested(cause: dict[str, Any]) -> tuple[str, str]:
    return cause.get("field", ""), cause.get("message", "").split(" at ")[0]


def _without_clockwork(events: list[Any]) -> list[Any]:
    """Without bookmarks, but for the one that ends the initial events."""
    return [
        event
        for event in events
        if event.get("type") != "BOOKMARK" or event["object"].get("metadata", {}).get("annotations")
    ]


def _told(path: str, actual: Any, expected: Any) -> str:
    return f"{path}: got {_short(actual)}, expected {_short(expected)}"


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 900 else f"{text[:900]}..."


# -- bodies


def sent_body(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, dict) and set(body) == {"$raw"}:
        return str(body["$raw"]).encode()
    if isinstance(body, dict) and set(body) == {"$base64"}:
        return base64.b64decode(body["$base64"])
    return json.dumps(_expanded(body), separators=(",", ":")).encode()


def _expanded(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$repeat"}:
            return value["$repeat"][0] * value["$repeat"][1]
        return {key: _expanded(item) for key, item in value.items()}
    return [_expanded(item) for item in value] if isinstance(value, list) else value


def _received(body: bytes, content_type: str) -> Any:
    if not body:
        return None
    if "json" in content_type:
        return json.loads(body)
    if "protobuf" in content_type:
        return {"$bytesPrefix": body[:4].hex()}
    return {"$text": body.decode()}


def _headers(answer: ApiResponse) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in SHOWN_HEADERS:
        values = [value for key, value in answer.headers if key.lower() == name]
        if values:
            found[name] = values if name == "warning" else values[0]
    return found


# -- replaying


@define
class Stage:
    """One API server on one store in a simulated world, and the scenario that plays on it."""

    world: SimWorld
    system: ActorSystem
    server: Ref[ApiServing]
    bindings: Bindings = field(factory=lambda: Bindings({}))
    _open: dict[str, ChannelReader[bytes]] = field(factory=dict)
    _unread: dict[str, list[Any]] = field(factory=dict)

    async def play(self, scenario: Scenario, number: int) -> dict[str, list[str]]:
        """The differences of each exchange that was not as recorded."""
        await self.set(number)
        found: dict[str, list[str]] = {}
        try:
            for exchange in scenario.exchanges:
                differences = await self._exchange(exchange)
                if differences:
                    found[exchange["id"]] = differences
        finally:
            for reader in self._open.values():
                reader.cancel()
            self._open.clear()
            self._unread.clear()
        await self.strike(scenario)
        return found

    async def set(self, number: int) -> None:
        """Make the namespace and service account that every scenario starts with."""
        namespace = namespace_of(number)
        self.bindings = Bindings({"ns": namespace}, self.world.now_text())
        for path, obj in (
            ("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": namespace}}),
            (
                f"/api/v1/namespaces/{namespace}/serviceaccounts",
                {"kind": "ServiceAccount", "metadata": {"name": "default"}},
            ),
        ):
            made = await self.ask("POST", path, body=sent_body({"apiVersion": "v1", **obj}))
            assert made.status in (201, 409), made.body

    async def strike(self, scenario: Scenario) -> None:
        """Delete what the scenario has made."""
        namespace = self.bindings.bound["ns"]
        for path in (*map(self.bindings.fill, scenario.cleanup), f"/api/v1/namespaces/{namespace}"):
            await self.ask("DELETE", path, (("gracePeriodSeconds", "0"),))

    async def ask(
        self,
        method: str,
        path: str,
        query: tuple[tuple[str, str], ...] = (),
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        auth: str = "",
        stream: Any = None,
    ) -> ApiResponse:
        given = {"content-type": "application/json"} if headers is None else headers
        sent = {"user-agent": USER_AGENT} | {name.lower(): value for name, value in given.items()}
        if auth.startswith("bearer:"):
            sent["authorization"] = f"Bearer {auth.removeprefix('bearer:')}"
        peer = None if auth else ADMINISTRATOR
        request = ApiRequest(method, path, query, tuple(sent.items()), body, peer, stream)
        return await self.server.ask(request, 90.0)

    async def _exchange(self, exchange: dict[str, Any]) -> list[str]:
        expected = exchange["response"]
        if exchange.get("wait"):
            await self.world.sleep(exchange["wait"])
        self.bindings.now = self.world.now_text()
        stream = exchange.get("stream")
        if stream and stream["op"] == "read":
            if stream["id"] not in self._open:
                return ["$stream: it was never opened"]
            events = await self._events(
                stream["id"], stream.get("count"), stream.get("timeout", EVENT_SECONDS)
            )
            if stream.get("close"):
                self._open.pop(stream["id"]).cancel()
            return self.bindings.differences(expected["body"], {"$watch": events})
        give_up = self.world.monotonic() + exchange.get("retry", 0)
        while True:
            bound = dict(self.bindings.bound)
            differences = self._compare(expected, *await self.answered(exchange))
            if not differences or self.world.monotonic() >= give_up:
                return differences
            self.bindings.bound = bound
            await self.world.sleep(0.1)

    async def answered(self, exchange: dict[str, Any]) -> tuple[ApiResponse, Any]:
        request, stream = exchange["request"], exchange.get("stream")
        fill = self.bindings.fill
        arguments: dict[str, Any] = {
            "query": tuple((key, fill(value)) for key, value in request.get("query", ())),
            "headers": fill(request.get("headers", {})),
            "body": sent_body(fill(request.get("body"))),
            "auth": fill(exchange.get("auth") or ""),
        }
        method, path = request["method"], fill(request["path"])
        if not stream and not exchange.get("watch"):
            answer = await self.ask(method, path, **arguments)
            body = b"" if method == "HEAD" else answer.body  # which the transport leaves away
            return answer, _received(body, answer.header("content-type") or "")
        identifier = stream["id"] if stream else "watch"
        writer, self._open[identifier] = self.system.own_channel(f"{method} {path}", STREAM_CAPACITY)
        answer = await self.ask(method, path, stream=writer, **arguments)
        if not answer.streaming:
            writer.close()
            self._open.pop(identifier).cancel()
            if stream:
                return answer, None
            return answer, {"$watch": [_received(answer.body, answer.header("content-type") or "")]}
        if stream:
            await self.world.sleep(stream.get("settle", SETTLE_SECONDS))
            return answer, None
        events = await self._events(identifier, None, WATCH_SECONDS)
        self._open.pop(identifier).cancel()
        return answer, {"$watch": events}

    async def _events(self, identifier: str, count: int | None, seconds: float) -> list[Any]:
        """The next events of a watch: so many, or all until it ends."""
        reader = self._open[identifier]
        unread = self._unread.setdefault(identifier, [])
        try:
            with self.world.deadline(seconds):
                while count is None or len(unread) < count:
                    chunk = await reader.receive()
                    unread += [json.loads(line) for line in chunk.splitlines()]
        except (DeadlineExceeded, EndOfChannel):
            pass
        taken = unread[:count]
        del unread[: len(taken)]
        return taken

    def _compare(self, expected: dict[str, Any], answer: ApiResponse, body: Any) -> list[str]:
        found = []
        if expected["status"] != answer.status:
            found.append(f"$status: got {answer.status}, expected {expected['status']}")
            if isinstance(body, dict) and "message" in body:
                found.append(f"$message: {body['message']}")
        found += self.bindings.differences(expected.get("headers", {}), _headers(answer), "$headers")
        return found + self.bindings.differences(expected["body"], body)


def namespace_of(number: int) -> str:
    letters = "".join(chr(ord("a") + number // 26**place % 26) for place in reversed(range(9)))
    return f"g{letters}"


def replay(facts_dir: Path, text: str = "") -> dict[str, dict[str, list[str]]]:
    """What differs, by scenario and exchange, for every scenario whose identifier holds `text`."""
    wanted = [scenario for scenario in scenarios(facts_dir) if text in scenario.identifier]
    results: dict[str, dict[str, list[str]]] = {}

    async def main(stage: Stage) -> None:
        waited = False
        for number, scenario in enumerate(wanted):
            if scenario.needs_compaction and not waited:
                await stage.world.sleep(COMPACTED_AFTER_SECONDS)
                waited = True
            results[scenario.identifier] = await stage.play(scenario, number)

    on_stage(main)
    return results


def on_stage(play: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a play on a fresh server in virtual time."""

    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store = system.spawn(memory_store(), "etcd")
            network = system.spawn(FakePodNetwork, "network")
            server = system.spawn(
                lambda: ApiServer(
                    store, ApiServerOptions(), lambda node: system.ref(f"/{node}/kubelet"), network
                ),
                "kube-apiserver",
            )
            await play(Stage(world, system, server))

    SimWorld(seed=1).run(main)


def main(arguments: list[str]) -> None:
    """Show what fails, and how much passes by area."""
    verbose = "-v" in arguments
    text = arguments[arguments.index("-k") + 1] if "-k" in arguments else ""
    facts = Path(os.environ.get("UNDERSTUDY_FACTS", Path(__file__).resolve().parents[3] / "shared" / "data"))
    logging.basicConfig(level=logging.ERROR)
    areas: dict[str, list[int]] = {}
    results = replay(facts, text)
    if "--write" in arguments:
        assert not text, "the list is made from all scenarios"
        passing = sorted(name for name, differences in results.items() if not differences)
        MUST_PASS.write_text("".join(f"{name}\n" for name in passing))
    for identifier, differences in results.items():
        passed, total = areas.setdefault(identifier.partition("/")[0], [0, 0])
        areas[identifier.partition("/")[0]] = [passed + (not differences), total + 1]
        if differences:
            print(f"FAIL {identifier}")
            for exchange, found in differences.items():
                print(f"   {exchange}")
                for line in found if verbose else found[:4]:
                    print(f"      {line if verbose else line[:300]}")
    for area, (passed, total) in areas.items():
        print(f"{area:24} {passed}/{total}")
    print(f"{sum(not found for found in results.values())}/{len(results)} scenarios pass")


if __name__ == "__main__":
    main(sys.argv[1:])
