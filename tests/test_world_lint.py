"""Time, randomness, ids, files, sockets, threads and waiting are the World's: nobody else may touch them.

Checked on the syntax tree of every module. The exceptions are listed here, each with its reason and with
what it may use, so that adding one is a decision that shows in a diff.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("mailbox", "actors", "raftstore", "components", "properties")
BARE_NAMES = frozenset(FOLDERS)

FORBIDDEN_MODULES = frozenset(
    [
        "time",
        "random",
        "secrets",
        "threading",
        "asyncio",
        "tempfile",
        "socket",
        "select",
        "selectors",
        "subprocess",
        "multiprocessing",
        "concurrent",
        "signal",
        "socketserver",
        "http.client",
        "urllib.request",
        "shutil",
    ]
)
"""Not to be imported at all."""

FORBIDDEN_NAMES = frozenset(
    [
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
        "uuid.uuid1",
        "uuid.uuid4",
        "uuid.getnode",
        "os.urandom",
        "os.getrandom",
        "os.open",
        "os.fdopen",
        "os.system",
        "os.popen",
        "os.fork",
        "os.remove",
        "os.unlink",
        "os.rename",
        "os.replace",
        "os.mkdir",
        "os.makedirs",
        "os.environ",
        "os.getenv",
        "os.getpid",
        "io.open",
    ]
)
"""Not to be used."""

TRIO_ALLOWED = frozenset(
    [
        "trio.Cancelled",
        "trio.BrokenResourceError",
        "trio.ClosedResourceError",
        "trio.EndOfChannel",
        "trio.WouldBlock",
    ]
)
"""Of Trio's own names, only those that neither wait nor do I/O."""

FORBIDDEN_BUILTINS = frozenset({"open", "input", "breakpoint"})
FILE_METHODS = frozenset(
    [
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "unlink",
        "mkdir",
        "rmdir",
        "touch",
        "rename",
        "iterdir",
        "glob",
        "rglob",
    ]
)
"""Methods that are `pathlib.Path`'s; of importlib.resources' too, so the loader of facts is listed below."""

ALL = frozenset({"*"})
ALLOWED: dict[str, frozenset[str]] = {
    # The worlds themselves, and the runtime that is built on Trio.
    "actors/": ALL,
    # Shipped data, read once, through importlib.resources.
    "components/machinery/facts/__init__.py": frozenset({"read_bytes"}),
    "properties/story/page.py": frozenset({"read_text"}),
    # Real adapters of the API's wire: sockets, TLS and files of certificates.
    "components/apiserver/https.py": frozenset({"trio"}),
    "components/apiserver/listening.py": frozenset({"trio", "socket"}),
    "components/apiserver/streams.py": frozenset({"trio", "socket"}),
    "components/client/https.py": frozenset({"trio"}),
    "components/client/kubeconfig.py": frozenset(
        {"os", "read_text", "read_bytes", "write_text", "unlink", "mkdir"}
    ),
    "components/machinery/tls.py": frozenset({"os", "tempfile", "unlink"}),
    # The real adapter of DNS: UDP and TCP sockets.
    "components/dns/listener.py": frozenset({"trio", "socket"}),
    # bcrypt, in a thread.
    "raftstore/passwords.py": frozenset({"trio"}),
    # The etcd API: our own .proto files, shipped; the wire front and the client: sockets and TLS.
    "raftstore/etcd/schema.py": frozenset({"read_text"}),
    "raftstore/etcd/listening.py": frozenset({"trio", "socket", "open"}),
    "raftstore/etcd/server.py": frozenset({"trio", "socket"}),
    "raftstore/etcd/client.py": frozenset({"trio"}),
    "raftstore/etcd/node.py": frozenset({"trio"}),
    # The command line: signals, the process's clock and limits.
    "src/understudy/cli/": ALL,
    "src/understudy/__main__.py": ALL,
}
"""File, or folder with a slash, and the modules, builtins or methods that it may use."""


def modules() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    own = ROOT / "src" / "understudy"
    found += [path for path in own.rglob("*.py") if path.relative_to(own).parts[0] not in BARE_NAMES]
    return sorted(found)


def test_nobody_imports_the_folders_by_their_bare_names() -> None:
    for folder in ("tests", "tools", "benchmarks", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            finder = Finder()
            finder.visit(ast.parse(path.read_text(encoding="utf-8")))
            wrong = [f"{path}:{line} {what}" for line, _, what in finder.found if "write understudy." in what]
            assert not wrong, "\n".join(wrong)


def allowed_for(name: str) -> frozenset[str]:
    granted: frozenset[str] = frozenset()
    for place, what in ALLOWED.items():
        if name == place or (place.endswith("/") and name.startswith(place)):
            granted |= what
    return granted


def _is_disk(node: ast.expr) -> bool:
    """Whether a method is called on the World's disk, by its name: it has methods of the same names."""
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) == "disk"


class Finder(ast.NodeVisitor):
    """Collects what a module imports and uses, each as a full dotted name."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []
        """Line, the name that an exception grants, and the complaint."""
        self._aliases: dict[str, str] = {}

    def visit_If(self, node: ast.If) -> None:
        # Imports for type checkers are not run.
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
            return
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._imported(node.lineno, alias.name)
            bound = alias.asname or alias.name.partition(".")[0]
            self._aliases[bound] = alias.name if alias.asname else bound

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            return
        if (node.module, [alias.name for alias in node.names]) != ("random", ["Random"]):
            # The type of a stream that somebody passes in; making one is found by its call.
            self._imported(node.lineno, node.module)
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            self._aliases[alias.asname or alias.name] = full
            self._used(node.lineno, full)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        full = self._dotted(node)
        if full is not None:
            self._used(node.lineno, full)
        elif node.attr in FILE_METHODS and not _is_disk(node.value):
            self._complain(node.lineno, node.attr, f"touches files: .{node.attr}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_BUILTINS:
            self._complain(node.lineno, node.func.id, f"calls {node.func.id}()")
        if self._dotted(node.func) == "random.Random":
            self._complain(node.lineno, "random", "makes a random stream: use world.rng(name)")
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in FILE_METHODS
            and self._dotted(node.func)
        ):
            self._complain(node.lineno, node.func.attr, f"touches files: .{node.func.attr}()")
        self.generic_visit(node)

    def _dotted(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return self._aliases.get(node.id)
        if isinstance(node, ast.Attribute):
            inner = self._dotted(node.value)
            return None if inner is None else f"{inner}.{node.attr}"
        return None

    def _imported(self, line: int, name: str) -> None:
        top = name.partition(".")[0]
        if top in FORBIDDEN_MODULES or name in FORBIDDEN_MODULES:
            self._complain(line, top, f"imports {name}")
        if top in BARE_NAMES:
            self._complain(line, "", f"imports {name}: write understudy.{name}")

    def _used(self, line: int, name: str) -> None:
        top = name.partition(".")[0]
        if name in FORBIDDEN_NAMES:
            self._complain(line, top, f"uses {name}")
        if top == "trio" and "." in name and ".".join(name.split(".")[:2]) not in TRIO_ALLOWED:
            self._complain(line, top, f"uses {name}: use the World")

    def _complain(self, line: int, grant: str, what: str) -> None:
        self.found.append((line, grant, what))


def complaints(name: str, source: str) -> list[str]:
    finder = Finder()
    finder.visit(ast.parse(source))
    granted = allowed_for(name)
    return [
        f"{name}:{line} {what}"
        for line, grant, what in sorted(set(finder.found))
        if not (grant and ("*" in granted or grant in granted))
    ]


def test_only_the_world_and_the_listed_adapters_touch_the_outside() -> None:
    found = [
        complaint
        for path in modules()
        for complaint in complaints(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]
    assert not found, "use the World, or list a real adapter in this test:\n" + "\n".join(found)


def test_every_exception_is_still_needed() -> None:
    names = [str(path.relative_to(ROOT)) for path in modules()]
    for place, granted in ALLOWED.items():
        covered = [
            name for name in names if name == place or (place.endswith("/") and name.startswith(place))
        ]
        assert covered, f"{place} is listed and does not exist"
        if granted != ALL:
            for grant in granted:
                finders = []
                for name in covered:
                    finder = Finder()
                    finder.visit(ast.parse((ROOT / name).read_text(encoding="utf-8")))
                    finders.append(finder)
                used = {found[1] for finder in finders for found in finder.found}
                assert grant in used, f"{place} may use {grant} and does not"


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import time as t",
        "from time import monotonic",
        "def f():\n    import random",
        "from datetime import datetime\ndatetime.now()",
        "import datetime as d\nd.datetime.now()",
        "from uuid import uuid4",
        "import uuid\nuuid.uuid4()",
        "import os\nos.urandom(3)",
        "from os import urandom as noise",
        "import trio\ntrio.sleep(1)",
        "from trio import Event",
        "import trio\nasync def f():\n    async with trio.open_nursery(): pass",
        "import trio.testing",
        "from random import Random\nRandom(7)",
        "from random import Random, random",
        "import threading, asyncio",
        "open('x')",
        "from pathlib import Path\nPath('x').read_text()",
        "from socket import socket",
        "import mailbox",
        "from actors import Actor",
        "from components.client import Client",
    ],
)
def test_the_check_finds_it(source: str) -> None:
    if source == "import trio.testing":
        source += "\ntrio.testing.MockClock()"
    assert complaints("components/somewhere.py", source)


@pytest.mark.parametrize(
    "source",
    [
        "from understudy.mailbox import Message",
        "from datetime import datetime, timedelta\ndatetime.fromisoformat('x')",
        "from .mailbox import Mailbox",
        "import trio\ntry: pass\nexcept trio.Cancelled: raise",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import random",
        "from uuid import UUID",
        "from random import Random\ndef f(random: Random): random.random()",
        "world.sleep(1)",
        "trio = 1",
    ],
)
def test_the_check_lets_pass(source: str) -> None:
    assert not complaints("components/somewhere.py", source)
