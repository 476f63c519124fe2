"""The commands of the fake shell that take no time: pure functions of a process's state and its arguments."""

import re
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress

from attrs import define, field


@define
class Process:
    """What a command can see and change."""

    env: dict[str, str]
    files: MutableMapping[str, bytes]
    hostname: str
    now_text: Callable[[], str]
    traps: dict[str, str] = field(factory=dict, kw_only=True)
    stdin: bytes = field(default=b"", kw_only=True)


Outcome = tuple[int, bytes, bytes]
"""Exit code, standard output, standard error."""

Builtin = Callable[[Process, list[str]], Outcome]


def _echo(_: Process, arguments: list[str]) -> Outcome:
    end = "\n"
    escapes = False
    while arguments and arguments[0] in ("-n", "-e", "-ne", "-en"):
        escapes = escapes or "e" in arguments[0]
        end = "" if "n" in arguments[0] else end
        arguments = arguments[1:]
    text = " ".join(arguments)
    return 0, ((_unescape(text) if escapes else text) + end).encode(), b""


def _printf(_: Process, arguments: list[str]) -> Outcome:
    values = iter(arguments[1:])
    text = re.sub(r"%(?:[sd])", lambda _: next(values, ""), arguments[0] if arguments else "")
    return 0, _unescape(text.replace("%%", "%")).encode(), b""


def _unescape(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")


def _cat(shell: Process, arguments: list[str]) -> Outcome:
    if not arguments:
        return 0, shell.stdin, b""
    out = error = b""
    for path in arguments:
        if path in shell.files:
            out += shell.files[path]
        elif path == "/etc/hostname":
            out += f"{shell.hostname}\n".encode()
        elif path != "/dev/null":
            error += f"cat: can't open '{path}': No such file or directory\n".encode()
    return int(bool(error)), out, error


def _tail(shell: Process, arguments: list[str]) -> Outcome:
    paths = [a for a in arguments if not a.startswith("-") and not a.isdigit()]
    code, out, error = _cat(shell, paths)
    return code, b"".join(out.splitlines(True)[-10:]), error


def _touch(shell: Process, arguments: list[str]) -> Outcome:
    for path in arguments:
        shell.files.setdefault(path, b"")
    return 0, b"", b""


def _rm(shell: Process, arguments: list[str]) -> Outcome:
    paths = [a for a in arguments if not a.startswith("-")]
    forced = any("f" in a for a in arguments if a.startswith("-"))
    missing = b""
    for path in paths:
        inside = [name for name in shell.files if name == path or name.startswith(path.rstrip("/") + "/")]
        for name in inside:
            del shell.files[name]
        if not inside and not forced:
            missing += f"rm: can't remove '{path}': No such file or directory\n".encode()
    return int(bool(missing)), b"", missing


def _env(shell: Process, arguments: list[str]) -> Outcome:
    if arguments:
        value = shell.env.get(arguments[0])
        return (1, b"", b"") if value is None else (0, f"{value}\n".encode(), b"")
    return 0, "".join(f"{name}={value}\n" for name, value in shell.env.items()).encode(), b""


def _export(shell: Process, arguments: list[str]) -> Outcome:
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals:
            shell.env[name] = value
    return 0, b"", b""


def _ls(shell: Process, arguments: list[str]) -> Outcome:
    paths = [a for a in arguments if not a.startswith("-")] or ["/"]
    out = error = b""
    for path in paths:
        prefix = path.rstrip("/") + "/"
        if path in shell.files:
            out += f"{path}\n".encode()
            continue
        inside = {n[len(prefix) :].partition("/")[0] for n in shell.files if n.startswith(prefix)}
        if inside or path == "/":
            out += "".join(f"{name}\n" for name in sorted(inside)).encode()
        else:
            error += f"ls: {path}: No such file or directory\n".encode()
    return int(bool(error)), out, error


def _grep(shell: Process, arguments: list[str]) -> Outcome:
    options = [a for a in arguments if a.startswith("-")]
    rest = [a for a in arguments if not a.startswith("-")]
    if not rest:
        return 2, b"", b"grep: no pattern\n"
    _, text, error = _cat(shell, rest[1:])
    try:
        pattern = re.compile(rest[0].encode())
    except re.error as failure:
        return 2, b"", f"grep: {failure}\n".encode()
    found = [line for line in text.splitlines(True) if pattern.search(line)]
    quiet = any("q" in option for option in options)
    return int(not found), b"" if quiet else b"".join(found), error


def _tee(shell: Process, arguments: list[str]) -> Outcome:
    paths = [a for a in arguments if not a.startswith("-")]
    for path in paths:
        shell.files[path] = (shell.files.get(path, b"") if "-a" in arguments else b"") + shell.stdin
    return 0, shell.stdin, b""


def _wc(shell: Process, arguments: list[str]) -> Outcome:
    _, text, error = _cat(shell, [a for a in arguments if not a.startswith("-")])
    size = len(text) if "-c" in arguments else len(text.splitlines())
    return int(bool(error)), f"{size}\n".encode(), error


def _seq(_: Process, arguments: list[str]) -> Outcome:
    numbers = [integer(a) for a in arguments]
    first = numbers[0] if len(numbers) > 1 else 1
    step = numbers[1] if len(numbers) > 2 else 1
    values = range(first, (numbers[-1] if numbers else 0) + 1, step or 1)[:10_000]
    return 0, "".join(f"{value}\n" for value in values).encode(), b""


def _trap(shell: Process, arguments: list[str]) -> Outcome:
    for signal in arguments[1:]:
        shell.traps[signal.removeprefix("SIG")] = arguments[0]
    return 0, b"", b""


def _say(text: Callable[[Process], str]) -> Builtin:
    return lambda shell, _: (0, f"{text(shell)}\n".encode(), b"")


def _nothing(code: int) -> Builtin:
    return lambda _, __: (code, b"", b"")


BUILTINS: Mapping[str, Builtin] = {
    "echo": _echo,
    "printf": _printf,
    "cat": _cat,
    "tail": _tail,
    "touch": _touch,
    "rm": _rm,
    "env": _env,
    "printenv": _env,
    "export": _export,
    "ls": _ls,
    "grep": _grep,
    "tee": _tee,
    "wc": _wc,
    "seq": _seq,
    "trap": _trap,
    "hostname": _say(lambda shell: shell.hostname),
    "date": _say(lambda shell: shell.now_text()),
    "whoami": _say(lambda _: "root"),
    "id": _say(lambda _: "uid=0(root) gid=0(root)"),
    "uname": _say(lambda _: "Linux"),
    "pwd": _say(lambda _: "/"),
    "nproc": _say(lambda _: "1"),
    "true": _nothing(0),
    ":": _nothing(0),
    "false": _nothing(1),
    "set": _nothing(0),
    "cd": _nothing(0),
    "mkdir": _nothing(0),
    "kill": _nothing(0),
    "read": _nothing(1),
}


def integer(text: str) -> int:
    """A number as the shell reads it: what is none is 0."""
    with suppress(ValueError):
        return int(text)
    return 0
