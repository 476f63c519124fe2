"""What a command in a fake container does: a small shell as a generator of effects, without I/O.

The driver performs the effects: it sleeps, and appends output to the log. Files live in a dictionary. A loop
that never sleeps yields a millisecond each round, so that no script can stop time.
"""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from attrs import define, field

from . import fake_shell_syntax as syntax
from .fake_effects import Effect, Effects, Output, Sleep
from .fake_shell_commands import BUILTINS, Process, integer
from .fake_shell_net import NETWORK_COMMANDS
from .fake_shell_syntax import ShellSyntaxError

ROUND_SECONDS = 0.001
"""What one round of a loop takes at least."""

FOREVER = float("inf")


class _Exit(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class _LoopControl(Exception):
    def __init__(self, again: bool) -> None:
        self.again = again


NOT_FOUND = 127


@define
class Shell(Process):
    """One process tree in a container."""

    unknown: Callable[[Sequence[str]], Effects] | None = None
    """What a command does that is not the shell's; None: it is not found."""
    _status: int = 0
    _jobs: list[Effects] = field(factory=list)
    _slept: bool = False

    def run(self, argv: Sequence[str]) -> Effects:
        """The effects of a command, to its exit code."""
        try:
            code = yield from self._execute(list(argv))
        except _Exit as stop:
            code = stop.code
        except _LoopControl:
            code = 0
        return code

    # -- scripts

    def _text(self, text: str) -> Effects:
        try:
            script = _parse(text)
        except ShellSyntaxError as error:
            yield Output(f"sh: syntax error: {error}\n".encode(), True)
            return 2
        return (yield from self._script(script))

    def _script(self, script: syntax.Script) -> Effects:
        for and_or in script:
            if and_or.background:
                self._jobs.append(self._and_or(and_or))
                self._status = 0
            else:
                self._status = yield from self._and_or(and_or)
        return self._status

    def _and_or(self, and_or: syntax.AndOr) -> Effects:
        code = yield from self._pipeline(and_or.first)
        for operator, pipeline in and_or.rest:
            if (code == 0) == (operator == "&&"):
                self._status = code
                code = yield from self._pipeline(pipeline)
        return code

    def _pipeline(self, pipeline: syntax.Pipeline) -> Effects:
        code = 0
        given = self.stdin
        for number, command in enumerate(pipeline.commands):
            if number + 1 < len(pipeline.commands):
                collected: list[bytes] = []
                code = yield from self._collect(self._command(command), collected)
                self.stdin = b"".join(collected)
            else:
                code = yield from self._command(command)
        self.stdin = given
        return int(code == 0) if pipeline.negated else code

    def _collect(self, effects: Effects, into: list[bytes]) -> Effects:
        answer = None
        while True:
            try:
                effect = effects.send(answer)
            except StopIteration as stop:
                return int(stop.value)
            answer = None
            if isinstance(effect, Output) and not effect.error:
                into.append(effect.data)
            else:
                answer = yield effect

    def _command(self, command: syntax.Command) -> Effects:
        effects = self._node(command.node)
        for redirect in command.redirects:
            effects = self._redirected(effects, redirect)
        return (yield from effects)

    def _redirected(self, effects: Effects, redirect: syntax.Redirect) -> Effects:
        operator = redirect.operator
        path = "" if redirect.target is None else " ".join((yield from self._word(redirect.target)))
        if operator == "<":
            if path not in self.files:
                yield Output(f"sh: can't open {path}: no such file\n".encode(), True)
                return 1
            self.stdin = self.files[path]
            return (yield from effects)
        from_error = operator.startswith("2")
        if operator in (">", "2>") and path != "/dev/null":
            self.files[path] = b""
        answer = None
        while True:
            try:
                effect = effects.send(answer)
            except StopIteration as stop:
                return int(stop.value)
            answer = None
            if not isinstance(effect, Output) or effect.error != from_error:
                answer = yield effect
            elif redirect.target is None:
                yield Output(effect.data, not from_error)
            elif path in ("/dev/stdout", "/dev/stderr", "/proc/1/fd/1", "/proc/1/fd/2"):
                yield Output(effect.data, path in ("/dev/stderr", "/proc/1/fd/2"))
            elif path != "/dev/null":
                self.files[path] = self.files.get(path, b"") + effect.data

    def _node(self, node: syntax.Simple | syntax.Loop | syntax.For | syntax.If | syntax.Group) -> Effects:
        match node:
            case syntax.Simple():
                return (yield from self._simple(node))
            case syntax.Loop(condition, body, until):
                return (yield from self._loop(condition, body, until))
            case syntax.For(name, words, body):
                return (yield from self._for(name, words, body))
            case syntax.If(branches, otherwise):
                for condition, body in branches:
                    if (yield from self._script(condition)) == 0:
                        return (yield from self._script(body))
                self._status = 0
                return (yield from self._script(otherwise))
            case syntax.Group(body, subshell):
                try:
                    return (yield from self._script(body))
                except _Exit as stop:
                    if not subshell:
                        raise
                    return stop.code

    def _loop(self, condition: syntax.Script, body: syntax.Script, until: bool) -> Effects:
        code = 0
        while True:
            self._slept = False
            passed = (yield from self._script(condition)) == 0
            if passed == until:
                return code
            try:
                code = yield from self._script(body)
            except _LoopControl as control:
                if not control.again:
                    return 0
            if not self._slept:
                yield Sleep(ROUND_SECONDS)

    def _for(self, name: str, words: tuple[syntax.Word, ...], body: syntax.Script) -> Effects:
        values: list[str] = []
        for word in words:
            values += yield from self._word(word)
        code = 0
        for value in values:
            self.env[name] = value
            try:
                code = yield from self._script(body)
            except _LoopControl as control:
                if not control.again:
                    return 0
        return code

    def _simple(self, simple: syntax.Simple) -> Effects:
        before: dict[str, str | None] = {}
        for name, word in simple.assignments:
            before[name] = self.env.get(name)
            self.env[name] = " ".join((yield from self._word(word)))
        argv: list[str] = []
        for word in simple.words:
            argv += yield from self._word(word)
        if not argv:
            return 0
        code = yield from self._execute(argv)
        for name, value in before.items():
            if value is None:
                self.env.pop(name, None)
            else:
                self.env[name] = value
        return code

    # -- words

    def _word(self, word: syntax.Word) -> Generator[Effect, Any, list[str]]:
        fields: list[str] = []
        current: str | None = None
        for part in word.parts:
            text = (yield from self._expand(part.text)) if part.expand else part.text
            if part.quoted:
                current = (current or "") + text
                continue
            pieces = text.split()
            if not pieces:
                if text and current is not None:
                    fields.append(current)
                    current = None
                continue
            if text[0].isspace() and current is not None:
                fields.append(current)
                current = None
            fields += [(current or "") + pieces[0], *pieces[1:]]
            current = None if text[-1].isspace() else fields.pop()
        if current is not None:
            fields.append(current)
        return fields

    def _expand(self, text: str) -> Generator[Effect, Any, str]:
        out = ""
        position = 0
        while (start := text.find("$", position)) >= 0:
            out += text[position:start]
            rest = text[start + 1 :]
            if rest.startswith("(("):
                end = _bracket(text, start + 1)
                out += str(_arithmetic((yield from self._expand(text[start + 3 : end - 2])), self.env))
            elif rest.startswith("("):
                end = _bracket(text, start + 1)
                collected: list[bytes] = []
                yield from self._collect(self._text(text[start + 2 : end - 1]), collected)
                out += b"".join(collected).decode("utf-8", "replace").rstrip("\n")
            elif rest.startswith("{"):
                end = _bracket(text, start + 1)
                name, colon, default = text[start + 2 : end - 1].partition(":-")
                value = self.env.get(name, "")
                out += (yield from self._expand(default)) if colon and not value else value
            else:
                match = re.match(r"[A-Za-z_]\w*|[?$#0-9]", rest)
                end = start + 1 + (match.end() if match else 0)
                out += self._variable(match.group()) if match else "$"
            position = end
        return out + text[position:]

    def _variable(self, name: str) -> str:
        if name == "?":
            return str(self._status)
        if name == "$":
            return "1"
        return self.env.get(name, "0" if name == "#" else "")

    # -- commands

    def _execute(self, argv: list[str]) -> Effects:
        name = argv[0].rpartition("/")[2] if argv[0].startswith(("/bin/", "/usr/bin/")) else argv[0]
        arguments = argv[1:]
        if name in ("sh", "bash", "ash"):
            return (yield from self._sh(arguments))
        if name == "exec":
            return (yield from self._execute(arguments)) if arguments else 0
        if name == "sleep":
            seconds = _seconds(arguments)
            if seconds is None:
                yield Output(f"sleep: invalid number '{' '.join(arguments)}'\n".encode(), True)
                return 1
            self._slept = self._slept or seconds > 0
            yield Sleep(seconds)
            return 0
        if name == "tail" and "-f" in arguments:
            self._slept = True
            yield Sleep(FOREVER)
            return 0
        if name == "wait":
            jobs, self._jobs = self._jobs, []
            for job in jobs:
                yield from job
            return 0
        if name == "exit":
            raise _Exit(int(arguments[0]) & 255 if arguments and arguments[0].isdigit() else self._status)
        if name in ("break", "continue"):
            raise _LoopControl(name == "continue")
        if name in ("test", "["):
            return int(not self._test(arguments[:-1] if name == "[" else arguments))
        if name in NETWORK_COMMANDS:
            return (yield from NETWORK_COMMANDS[name](self, arguments))
        if name in BUILTINS:
            code, out, error = BUILTINS[name](self, arguments)
            if out:
                yield Output(out)
            if error:
                yield Output(error, True)
            return code
        if self.unknown is not None:
            return (yield from self.unknown(argv))
        yield Output(f"sh: {argv[0]}: not found\n".encode(), True)
        return NOT_FOUND

    def _sh(self, arguments: list[str]) -> Effects:
        if arguments and re.fullmatch(r"-[a-z]*c", arguments[0]):
            for number, value in enumerate(arguments[2:]):
                self.env[str(number)] = value
            return (yield from self._text(arguments[1] if len(arguments) > 1 else ""))
        scripts = [a for a in arguments if not a.startswith("-")]
        if scripts:
            if scripts[0] in self.files:
                return (yield from self._text(self.files[scripts[0]].decode("utf-8", "replace")))
            yield Output(f"sh: can't open '{scripts[0]}': No such file or directory\n".encode(), True)
            return 2
        return (yield from self._text(self.stdin.decode("utf-8", "replace")))

    def _test(self, arguments: list[str]) -> bool:
        match arguments:
            case []:
                return False
            case ["!", *rest]:
                return not self._test(rest)
            case [("-f" | "-e" | "-s"), path]:
                return path in self.files and (arguments[0] != "-s" or bool(self.files[path]))
            case ["-d", path]:
                return any(name.startswith(path.rstrip("/") + "/") for name in self.files)
            case ["-n", text]:
                return bool(text)
            case ["-z", text]:
                return not text
            case [text]:
                return bool(text)
            case [left, ("=" | "=="), right]:
                return left == right
            case [left, "!=", right]:
                return left != right
            case [left, ("-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge") as comparison, right]:
                a, b = integer(left), integer(right)
                return {
                    "-eq": a == b,
                    "-ne": a != b,
                    "-lt": a < b,
                    "-le": a <= b,
                    "-gt": a > b,
                    "-ge": a >= b,
                }[comparison]
        return False


_SPECIAL = ("sh", "bash", "ash", "exec", "sleep", "wait", "exit", "break", "continue", "test", "[")


def known(command: str) -> bool:
    """Whether a command is the shell's own, by its name or its path."""
    name = command.rpartition("/")[2] if command.startswith(("/bin/", "/usr/bin/")) else command
    return name in _SPECIAL or name in BUILTINS or name in NETWORK_COMMANDS


_parse = lru_cache(maxsize=256)(syntax.parse)


def _bracket(text: str, position: int) -> int:
    try:
        return syntax._closing(text, position)
    except ShellSyntaxError:
        return len(text)


def _seconds(arguments: list[str]) -> float | None:
    total = 0.0
    for argument in arguments:
        if argument in ("infinity", "inf"):
            return FOREVER
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([smhd]?)", argument)
        if match is None:
            return None
        total += float(match.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match.group(2)]
    return total if arguments else None


def _arithmetic(text: str, env: Mapping[str, str]) -> int:
    """Integer arithmetic with + - * / % and parentheses; a name is a variable. Wrong input gives 0."""
    tokens = re.findall(r"\d+|[A-Za-z_]\w*|[-+*/%()]", text)
    position = 0

    def atom() -> int:
        nonlocal position
        token = tokens[position] if position < len(tokens) else "0"
        position += 1
        if token == "(":
            value = total()
            position += 1
            return value
        if token == "-":
            return -atom()
        return int(token) if token.isdigit() else integer(env.get(token, "0"))

    def product() -> int:
        nonlocal position
        value = atom()
        while position < len(tokens) and tokens[position] in "*/%":
            operator = tokens[position]
            position += 1
            other = atom()
            if operator == "*":
                value *= other
            elif other:
                value = value // other if operator == "/" else value % other
        return value

    def total() -> int:
        nonlocal position
        value = product()
        while position < len(tokens) and tokens[position] in "+-":
            operator = tokens[position]
            position += 1
            value = value + product() if operator == "+" else value - product()
        return value

    return total()
